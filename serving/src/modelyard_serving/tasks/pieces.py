"""Where the pieces of a window's text begin and end, and where the next window begins. Pure.

As Whisper has it (https://github.com/openai/whisper, whisper/transcribe.py): two points of time in a row end a piece
and begin another; what comes after the last pair is cut off in the middle, and is heard again in the next window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FRAME_S = 0.01
FRAMES_OF_A_STEP = 2
"""A step of the points of time, in frames."""


@dataclass(frozen=True)
class Piece:
    """Tokens, points of time included, and the frames of the window at which they begin and end."""

    begin: int
    end: int
    tokens: tuple[int, ...]


def split(tokens: Sequence[int], first_time: int, frames: int) -> tuple[list[Piece], int]:
    """The pieces of a window that has so many frames, and the frames until the next window; never none.

    `first_time` is the token of the window's begin; those after it are later points of time.
    """
    is_time = [token >= first_time for token in tokens]
    cuts = [place + 1 for place, pair in enumerate(pairwise(is_time)) if pair == (True, True)]
    if not cuts:
        last_time = next((token for token in reversed(tokens) if token >= first_time), first_time)
        end = frames if last_time == first_time else _frame(last_time, first_time)
        return [Piece(0, end, tuple(tokens))], frames
    single_ending = is_time[-2:] == [False, True]
    if single_ending:
        cuts.append(len(tokens))
    pieces, last = [], 0
    for cut in cuts:
        part = tuple(tokens[last:cut])
        pieces.append(Piece(_frame(part[0], first_time), _frame(part[-1], first_time), part))
        last = cut
    ahead = frames if single_ending else pieces[-1].end
    return pieces, ahead if ahead > 0 else frames


def _frame(token: int, first_time: int) -> int:
    return FRAMES_OF_A_STEP * (token - first_time)
