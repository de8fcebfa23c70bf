"""One step's tokens as tensors: what to compute, where to put it, what to look at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modelyard_serving.engines.batching.kv_memory import KVMemory
from modelyard_serving.engines.batching.scheduler import Chunk
from modelyard_serving.engines.batching.sequence import blocks_for

LENGTH_STEP = 16
"""Lengths of looked-at blocks are rounded up to this: few shapes, and memory at whole cache lines."""
DENSE = 0.5
"""Blocks are looked at in place where at least this share of the range that holds them is in use; else they are
gathered first."""


@dataclass(frozen=True)
class Answers:
    """Rows with one token each, and the blocks with what came before: each block is looked at by one row."""

    rows: int
    looked_at: int
    """Blocks that are looked at: the first so many, or those in `gathered`."""
    gathered: torch.Tensor | None
    length: int
    """Tokens of each block that are looked at."""
    owner: torch.Tensor
    """The row of each block; any row for a block that is not in use."""
    mask: torch.Tensor
    """What is added to the scores, per block."""
    used: torch.Tensor
    """The blocks in use, those of the first row first."""
    several: bool
    """Whether a row has more than one block."""


@dataclass(frozen=True)
class Prompt:
    """Consecutive tokens of one sequence, from row `begin` to row `end`."""

    begin: int
    end: int
    before: torch.Tensor | None
    """Where all tokens of the sequence up to here lie, these included; None: there are none before these."""


@dataclass(frozen=True)
class Step:
    """The tokens of a step: first one for each answer, then the chunks of prompts one after the other."""

    tokens: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor
    """Where each token's keys and values go."""
    answers: Answers | None
    prompts: tuple[Prompt, ...]
    ends: torch.Tensor
    """The last row of each chunk."""


def build_step(chunks: Sequence[Chunk[Any]], memory: KVMemory) -> Step:
    """The tensors for `chunks`, those with one token first."""
    device = memory.shape.device
    tokens: list[int] = []
    positions: list[int] = []
    places = []
    prompts = []
    ends = []
    rows = [chunk for chunk in chunks if chunk.count == 1]
    for chunk in chunks:
        stop = chunk.start + chunk.count
        if chunk.count > 1:
            before = memory.places(chunk.sequence.blocks, stop) if chunk.start else None
            prompts.append(Prompt(len(tokens), len(tokens) + chunk.count, before))
        tokens += chunk.sequence.tokens[chunk.start : stop]
        positions += range(chunk.start, stop)
        places.append(memory.places(chunk.sequence.blocks, stop, chunk.start))
        ends.append(len(tokens) - 1)
    return Step(
        torch.tensor(tokens, device=device), torch.tensor(positions, device=device), torch.cat(places),
        _answers(rows, memory) if rows else None, tuple(prompts), torch.tensor(ends, device=device),
    )  # fmt: skip


def _answers(rows: list[Chunk[Any]], memory: KVMemory) -> Answers:
    size, device = memory.block_size, memory.shape.device
    owners: list[int] = []
    blocks: list[int] = []
    valid: list[int] = []
    for row, chunk in enumerate(rows):
        length = chunk.start + 1
        mine = chunk.sequence.blocks[: blocks_for(length, size)]
        blocks += mine
        owners += [row] * len(mine)
        valid += [size] * (len(mine) - 1) + [length - size * (len(mine) - 1)]
    looked_at = max(blocks) + 1
    gathered = None
    if len(blocks) < DENSE * looked_at:
        gathered = torch.tensor(blocks, device=device)
        looked_at, blocks = len(blocks), list(range(len(blocks)))
    longest = min(-(-max(valid) // LENGTH_STEP) * LENGTH_STEP, size)
    used = torch.tensor(blocks)
    # A block that is not in use is looked at too, but all of it: a row of nothing but minus infinity has no softmax.
    lengths = torch.full((looked_at,), longest)
    lengths[used] = torch.tensor(valid)
    owner = torch.zeros(looked_at, dtype=torch.long)
    owner[used] = torch.tensor(owners)
    mask = torch.zeros(looked_at, 1, 1, longest, dtype=memory.shape.dtype)
    mask.masked_fill_((torch.arange(longest) >= lengths.unsqueeze(1)).view(mask.shape), -math.inf)
    return Answers(
        len(rows), looked_at, gathered, longest, owner.to(device), mask.to(device), used.to(device),
        several=len(used) > len(rows),
    )  # fmt: skip
