"""Where pieces of a window's text begin and end; 100 and above are points of time of 20 ms."""

import pytest

from modelyard_serving.tasks.pieces import Piece, split

FIRST = 100


@pytest.mark.parametrize(
    ("tokens", "pieces", "ahead"),
    [
        # Two points of time in a row cut; what comes after them is heard again.
        ((100, 1, 2, 150, 150, 3), [Piece(0, 100, (100, 1, 2, 150))], 100),
        ((110, 1, 150, 160, 2, 190, 190), [Piece(20, 100, (110, 1, 150)), Piece(120, 180, (160, 2, 190))], 180),
        # One at the end: nobody speaks after it.
        ((100, 1, 150, 150, 2, 170), [Piece(0, 100, (100, 1, 150)), Piece(100, 140, (150, 2, 170))], 3000),
        ((100, 1, 2, 170), [Piece(0, 140, (100, 1, 2, 170))], 3000),
        # None but the first, or none at all: the piece lasts as long as the window.
        ((100, 1, 2), [Piece(0, 3000, (100, 1, 2))], 3000),
        ((1, 2), [Piece(0, 3000, (1, 2))], 3000),
        ((), [Piece(0, 3000, ())], 3000),
        # A piece that ends where the window begins would be heard for ever.
        ((100, 100, 1), [Piece(0, 0, (100,))], 3000),
    ],
)
def test_a_window_is_split_where_points_of_time_meet(tokens: tuple[int, ...], pieces: list[Piece], ahead: int) -> None:
    assert split(tokens, FIRST, 3000) == (pieces, ahead)
