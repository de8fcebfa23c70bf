"""What the next step computes: who joins, who gets memory, who waits. Tables of numbers only; no clock, no tensors."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from modelyard_serving.engines.batching.block_pool import BlockPool
from modelyard_serving.engines.batching.prefix_cache import PrefixCache, shared
from modelyard_serving.engines.batching.sequence import Sequence, blocks_for

WORTH_SHARING = 16
"""Fewer tokens than this are computed faster than they are looked up and copied."""
MOST_KEPT = 256
"""Beginnings that the prefix cache knows at most; each admission looks through them all."""

S = TypeVar("S", bound=Sequence)


@dataclass(frozen=True)
class Chunk(Generic[S]):
    """The next `count` tokens of a sequence, from `start` on."""

    sequence: S
    start: int
    count: int

    @property
    def reaches_end(self) -> bool:
        """Whether the next token can be chosen after it."""
        return self.start + self.count == len(self.sequence.tokens)


@dataclass(frozen=True)
class Copy:
    """The keys and values of the first `tokens` tokens go from some blocks to others."""

    source: tuple[int, ...]
    target: tuple[int, ...]
    tokens: int


@dataclass(frozen=True)
class Plan(Generic[S]):
    """One step: first the copies, in their order, then all chunks in one pass; chunks of one token come first."""

    copies: list[Copy]
    chunks: list[Chunk[S]]


@dataclass
class PrefixUse:
    """How many tokens of prompts were looked up, and how many of them were there."""

    asked: int = 0
    found: int = 0


@dataclass
class Scheduler(Generic[S]):
    """Sequences that run or wait, in the order in which they came."""

    blocks: int
    block_size: int
    step_tokens: int
    """A step computes no more tokens of prompts than fit beside the running answers in so many."""
    prefix_use: PrefixUse = field(default_factory=PrefixUse)

    def __post_init__(self) -> None:
        self.running: list[S] = []
        self.waiting: deque[S] = deque()
        self._copies: list[Copy] = []
        self._forget()

    @property
    def used_blocks(self) -> int:
        """Blocks of running sequences."""
        return sum(len(each.blocks) for each in self.running)

    def add(self, sequences: Iterable[S]) -> None:
        """They wait for a place; urgent ones before all others."""
        for sequence in sequences:
            if sequence.urgent:
                self.waiting.appendleft(sequence)
            else:
                self.waiting.append(sequence)

    def plan(self, max_running: int) -> Plan[S]:
        """The next step; without chunks when there is nothing to do."""
        for sequence in [each for each in self.running if each.cancelled]:
            self.end(sequence)
        self.drop_cancelled()
        self._admit(max_running)
        chunks = self._answers()
        chunks += self._prompts(max(self.step_tokens - len(chunks), 1))
        copies, self._copies = self._copies, []
        return Plan(copies, sorted(chunks, key=lambda each: each.count > 1))

    def drop_cancelled(self) -> None:
        """Cancelled sequences leave the queue."""
        self.waiting = deque(each for each in self.waiting if not each.cancelled)

    def computed(self, chunk: Chunk[S]) -> None:
        """The step that had `chunk` is done."""
        chunk.sequence.computed = chunk.start + chunk.count

    def end(self, sequence: S) -> None:
        """A running sequence leaves; what was computed of it is kept while there is memory for it."""
        self.running.remove(sequence)
        tokens = sequence.tokens[: sequence.computed]
        count = blocks_for(len(tokens), self.block_size)
        if len(tokens) >= WORTH_SHARING and count <= self._pool.free and not self._kept.knows(tokens):
            kept = self._pool.take_high(count)
            self._copies.append(Copy(tuple(sequence.blocks[:count]), tuple(kept), len(tokens)))
            self._pool.give_back(self._kept.keep(tokens, kept))
        self._release(sequence)

    def abandon(self) -> list[S]:
        """All that ran or waited; nothing of it is kept."""
        left = [*self.abandon_running(), *self.waiting]
        self.waiting.clear()
        return left

    def abandon_running(self) -> list[S]:
        """All that ran; nothing of it is kept, for what a failed step wrote is not known."""
        left, self.running = self.running, []
        self._forget()
        return left

    def _forget(self) -> None:
        """All memory is free and holds nothing."""
        self._pool = BlockPool(self.blocks)
        self._kept = PrefixCache(most=MOST_KEPT)
        self._copies = []

    def _admit(self, max_running: int) -> None:
        held: list[S] = []
        while self.waiting:
            sequence = self.waiting.popleft()
            ordinary = sum(not each.urgent for each in self.running)
            if self._awaits_group(sequence):
                held.append(sequence)
                continue
            full = ordinary >= max_running and not sequence.urgent
            need = blocks_for(len(sequence.tokens) + 1, self.block_size)
            if full or not self._make_room(need, urgent=sequence.urgent):
                self.waiting.appendleft(sequence)
                break
            self._start(sequence)
        self.waiting.extendleft(reversed(held))

    def _awaits_group(self, sequence: S) -> bool:
        """Whether another choice of the request computes the prompt just now."""
        return sequence.prompt_length >= WORTH_SHARING and any(
            other.group is sequence.group and other.computed < other.prompt_length - 1 for other in self.running
        )

    def _start(self, sequence: S) -> None:
        """Give the sequence its blocks, and what others have computed of its beginning."""
        source, length = self._nearest(sequence)
        sequence.blocks = self._pool.take(blocks_for(len(sequence.tokens) + 1, self.block_size))
        # The last token is computed in any case: what follows it is what the engine wants to know.
        length = min(length, len(sequence.tokens) - 1)
        if length >= WORTH_SHARING:
            used = blocks_for(length, self.block_size)
            self._copies.append(Copy(source[:used], tuple(sequence.blocks[:used]), length))
            sequence.computed = length
        self.prefix_use.asked += len(sequence.tokens)
        self.prefix_use.found += sequence.computed
        self.running.append(sequence)

    def _nearest(self, sequence: S) -> tuple[tuple[int, ...], int]:
        """Blocks that hold the longest beginning of `sequence`, and how many tokens of it."""
        blocks: tuple[int, ...] = ()
        length = 0
        found = self._kept.longest(sequence.tokens)
        if found is not None and found[1] >= WORTH_SHARING:
            blocks, length = found[0].blocks, found[1]
            self._kept.touch(found[0])
        for other in self.running:
            common = min(shared(other.tokens, sequence.tokens), other.computed)
            if common > length:
                blocks, length = tuple(other.blocks), common
        return blocks, length

    def _make_room(self, blocks: int, *, urgent: bool = False) -> bool:
        """Free so many blocks; of running sequences only for urgent ones, and only the youngest that are not."""
        while self._pool.free < blocks:
            dropped = self._kept.drop_oldest()
            if dropped:
                self._pool.give_back(dropped)
                continue
            victim = self._youngest() if urgent else None
            if victim is None:
                return False
            self._put_back(victim)
        return True

    def _answers(self) -> list[Chunk[S]]:
        """One token of each sequence whose prompt is computed."""
        chunks = []
        for sequence in list(self.running):
            if sequence.blocks and sequence.pending == 1 and self._grow(sequence):
                chunks.append(Chunk(sequence, sequence.computed, 1))
        # An urgent one may have taken the memory of one that came before it.
        return [chunk for chunk in chunks if chunk.sequence.blocks]

    def _grow(self, sequence: S) -> bool:
        """Memory for the next token, from the youngest if need be; False: this is the youngest, and it waits again."""
        while len(sequence.blocks) * self.block_size < len(sequence.tokens):
            if not self._make_room(1):
                victim = self._youngest() or sequence
                self._put_back(victim)
                if victim is sequence:
                    return False
                continue
            sequence.blocks += self._pool.take(1)
        return True

    def _prompts(self, budget: int) -> list[Chunk[S]]:
        """The next tokens of sequences whose prompt is not computed yet.

        The first that came gets half of the budget at least, so that it gets on; then the shortest, so that a short
        prompt does not wait for the whole of a long one.
        """
        begun = [each for each in self.running if each.pending > 1]
        if not begun:
            return []
        first = begun[0]
        counts = {id(first): min(first.pending, -(-budget // 2))}
        budget -= counts[id(first)]
        for sequence in sorted(begun[1:], key=lambda each: (not each.urgent, each.pending)):
            counts[id(sequence)] = min(sequence.pending, budget)
            budget -= counts[id(sequence)]
        counts[id(first)] += min(first.pending - counts[id(first)], budget)
        return [Chunk(each, each.computed, counts[id(each)]) for each in begun if counts[id(each)]]

    def _youngest(self) -> S | None:
        return next((each for each in reversed(self.running) if not each.urgent), None)

    def _put_back(self, sequence: S) -> None:
        """It gives its memory back and will be computed anew; its tokens stay."""
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.appendleft(sequence)

    def _release(self, sequence: S) -> None:
        self._pool.give_back(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
