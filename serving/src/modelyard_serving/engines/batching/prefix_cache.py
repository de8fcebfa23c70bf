"""Beginnings whose keys and values are still in memory, so that nobody computes them again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class KeptPrefix:
    """The tokens of something that has ended, and the blocks that hold their keys and values."""

    tokens: tuple[int, ...]
    blocks: tuple[int, ...]


class PrefixCache:
    """What is kept of sequences that have ended; the least recently used goes first."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._kept: list[KeptPrefix] = []
        """The most recently used last."""

    @property
    def blocks(self) -> int:
        """How many blocks are kept."""
        return sum(len(each.blocks) for each in self._kept)

    def longest(self, tokens: Sequence[int]) -> tuple[KeptPrefix, int] | None:
        """What shares the longest beginning with `tokens`, and how many tokens that is."""
        best = max(self._kept, key=lambda each: shared(each.tokens, tokens), default=None)
        return None if best is None else (best, shared(best.tokens, tokens))

    def knows(self, tokens: Sequence[int]) -> bool:
        """Whether all of `tokens` is kept already; it then counts as just used."""
        found = self.longest(tokens)
        if found is None or found[1] < len(tokens):
            return False
        self.touch(found[0])
        return True

    def touch(self, kept: KeptPrefix) -> None:
        """It was just used."""
        self._kept.remove(kept)
        self._kept.append(kept)

    def keep(self, tokens: Sequence[int], blocks: Iterable[int]) -> list[int]:
        """Keep these; the blocks of what is no longer kept for it: beginnings of the new one, or one too many."""
        new = KeptPrefix(tuple(tokens), tuple(blocks))
        gone = [each for each in self._kept if shared(each.tokens, new.tokens) == len(each.tokens)]
        self._kept = [each for each in self._kept if each not in gone]
        if len(self._kept) >= self._most:
            gone.append(self._kept.pop(0))
        self._kept.append(new)
        return [block for each in gone for block in each.blocks]

    def drop_oldest(self) -> list[int]:
        """The blocks of the least recently used, which is kept no longer; empty when nothing is kept."""
        return list(self._kept.pop(0).blocks) if self._kept else []


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share from the beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # slices are compared at the speed of C, so halve instead of walking
        middle = (low + high + 1) // 2
        if list(one[low:middle]) == list(other[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low
