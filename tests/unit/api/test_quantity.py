"""Quantities and durations as numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_operator.api.quantity import format_bytes, parse_bytes, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4", 4),
        ("0.5", "0.5"),
        ("500m", "0.5"),
        ("2k", 2000),
        ("512Mi", 512 * 2**20),
        ("1.5Gi", 3 * 2**29),
        ("1P", 10**15),
    ],
)
def test_quantity_is_exact(text: str, number: int | str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "2GB", "-1", "1e3", "1 Gi", "2Gi\n", ".5"])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 512Mi"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("250ms", 0.25), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("1h1h", 7200)],
)
def test_duration_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "2d", "1h 30m", "-5s", "s", "5s\n"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 30s"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=2**50))
def test_formatted_bytes_are_within_a_tenth_of_their_unit(number: int) -> None:
    text = format_bytes(number)
    unit = parse_bytes("1" + text.lstrip("0123456789."))
    assert abs(parse_bytes(text) - number) <= unit / 20 + 1
