"""Which items make a batch: pure numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_serving.engines.grouping import CALL_CELLS, BatchLimits, LastBatch, bucket, choose, hold_until

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=80)
LIMITS = st.builds(BatchLimits, items=st.integers(1, 40), cells=st.integers(8, 9000))


@pytest.mark.parametrize(
    ("length", "upper"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 80), (80, 80), (129, 160), (256, 256), (257, 320)]
)
def test_the_scale(length: int, upper: int) -> None:
    assert bucket(length) == upper


@given(st.integers(1, 100_000))
def test_a_bucket_holds_its_lengths_with_little_room(length: int) -> None:
    assert length <= bucket(length) <= max(length + 7, length * 1.25)
    assert bucket(bucket(length)) == bucket(length)


@pytest.mark.parametrize(
    ("lengths", "limits", "places"),
    [
        ([5], BatchLimits(), [0]),
        ([5000], BatchLimits(cells=100), [0]),
        ([100, 5, 101, 6, 103], BatchLimits(), [0, 2, 4]),
        ([5, 500, 6], BatchLimits(), [0, 2]),
        ([20, 20, 20, 20], BatchLimits(items=3), [0, 1, 2]),
        ([20, 20, 20, 20], BatchLimits(cells=60), [0, 1, 2]),
        ([100, 80, 100], BatchLimits(items=2), [0, 2]),
        ([10, 30, 40], BatchLimits(), [0, 1, 2]),
    ],
    ids=["alone", "too large", "of a length", "not with a long one", "items", "cells", "own bucket first", "cheap"],
)
def test_what_makes_a_batch(lengths: list[int], limits: BatchLimits, places: list[int]) -> None:
    assert choose(lengths, limits) == places


@given(LENGTHS, LIMITS)
def test_every_batch_keeps_its_limits_and_has_the_first(lengths: list[int], limits: BatchLimits) -> None:
    chosen = choose(lengths, limits)
    cells = max(lengths[place] for place in chosen) * len(chosen)
    assert chosen[0] == 0
    assert len(set(chosen)) == len(chosen) <= limits.items
    assert len(chosen) == 1 or cells <= limits.cells
    others = [lengths[place] for place in chosen if bucket(lengths[place]) != bucket(lengths[0])]
    if others:
        padding = cells - sum(lengths[place] for place in chosen)
        assert padding <= max(CALL_CELLS, cells // 8)


@given(LENGTHS, LIMITS)
def test_everything_gets_its_turn(lengths: list[int], limits: BatchLimits) -> None:
    waiting, batches = list(lengths), 0
    while waiting:
        taken = set(choose(waiting, limits))
        waiting = [length for place, length in enumerate(waiting) if place not in taken]
        batches += 1
    assert batches <= len(lengths)


@pytest.mark.parametrize(
    ("oldest", "waiting", "last", "until"),
    [
        (10.0, 1, None, 10.0),
        (10.0, 1, LastBatch(9.9995, 1), 10.0),
        (10.0, 3, LastBatch(9.9995, 3), 10.0),
        (10.0, 1, LastBatch(9.9995, 8), 10.0015),
        (9.5, 1, LastBatch(9.9995, 8), 9.502),
        (10.0, 1, LastBatch(3.0, 8), 3.002),
    ],
    ids=["first of all", "a single client", "all are here", "company is near", "waited already", "idle engine"],
)
def test_how_long_a_batch_that_is_not_full_waits(
    oldest: float, waiting: int, last: LastBatch | None, until: float
) -> None:
    assert hold_until(oldest, waiting, last, 0.002) == pytest.approx(until)
