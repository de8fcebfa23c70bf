"""Which blocks of the memory for keys and values are free."""

import heapq


class BlockPool:
    """Blocks 0 to `count` - 1, each taken by one owner at most.

    What is computed with comes from the low end and what is only kept from the high end: attention looks at a range
    of blocks in place, so the ones in use should be close together.
    """

    def __init__(self, count: int) -> None:
        self._free = set(range(count))
        # Both heaps may name blocks that are taken by now; `_free` decides.
        self._low = list(range(count))
        self._high = [-block for block in reversed(range(count))]

    @property
    def free(self) -> int:
        """How many blocks are free."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """The lowest free blocks; raises `IndexError` when there are fewer."""
        return [self._pop(self._low, 1) for _ in range(count)]

    def take_high(self, count: int) -> list[int]:
        """The highest free blocks; raises `IndexError` when there are fewer."""
        return [self._pop(self._high, -1) for _ in range(count)]

    def give_back(self, blocks: list[int]) -> None:
        """They are free again."""
        for block in blocks:
            self._free.add(block)
            heapq.heappush(self._low, block)
            heapq.heappush(self._high, -block)

    def _pop(self, heap: list[int], sign: int) -> int:
        while True:
            block = sign * heapq.heappop(heap)
            if block in self._free:
                self._free.remove(block)
                return block
