"""Which of the waiting items are computed together. Pure: numbers in, places out.

Items of one batch are padded to the longest of them, so a batch takes items of about the same length. A length's
*bucket* is its upper bound on a scale whose steps grow with the length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

CALL_CELLS = 64
"""What one more call of the model costs beside its items, in cells (tokens of padding or text).

Padding up to that is cheaper than a call of its own."""


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch may be; an item that is alone larger than `cells` gets a batch of its own."""

    items: int = 32
    cells: int = 8192
    """Items times the longest item's length."""


def bucket(length: int) -> int:
    """The upper bound of `length` on the scale: steps of an eighth to a quarter of it, never under 8."""
    step = 8
    while step * 8 < length:
        step *= 2
    return -(-length // step) * step


def choose(lengths: Sequence[int], limits: BatchLimits) -> list[int]:
    """The places in `lengths`, which has the waiting items in the order of their right to go, that make a batch.

    The first item is always in it: nobody waits longer because of an odd length. Then come items of its bucket, then
    those of near buckets as long as all padding costs less than a call of their own, or an eighth of the batch.
    """
    anchor = bucket(lengths[0])
    others = sorted(range(1, len(lengths)), key=lambda place: (abs(bucket(lengths[place]) - anchor), place))
    chosen, longest, total = [0], lengths[0], lengths[0]
    for place in others:
        if len(chosen) >= limits.items:
            break
        longest_then = max(longest, lengths[place])
        cells = longest_then * (len(chosen) + 1)
        own_bucket = bucket(lengths[place]) == anchor
        padding = cells - total - lengths[place]
        if cells > limits.cells or not (own_bucket or padding <= max(CALL_CELLS, cells // 8)):
            continue
        chosen.append(place)
        longest, total = longest_then, total + lengths[place]
    return chosen


@dataclass(frozen=True)
class LastBatch:
    """What the engine did last."""

    ended: float
    requests: int


def hold_until(oldest: float, waiting: int, last: LastBatch | None, max_wait_s: float) -> float:
    """When a batch that is not full shall go; times in seconds of one clock, a time in the past means at once.

    Only where several requests have just been answered together, their clients' next ones are worth a moment's
    waiting. A request that comes to an idle engine, or to one that serves a single client, never waits.
    """
    if last is None or waiting >= last.requests:
        return oldest
    return min(oldest, last.ended) + max_wait_s
