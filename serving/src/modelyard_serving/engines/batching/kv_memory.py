"""The memory for keys and values: how much there is, and the tensors."""

from dataclasses import dataclass

import numpy
import torch

from modelyard_serving.engines.batching.scheduler import Copy

BLOCK_TOKENS = 256
"""Long enough that most answers take one block or two; a sequence wastes half a block on the average."""


@dataclass(frozen=True)
class KVShape:
    """What one token leaves behind in a model."""

    layers: int
    heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        return 2 * self.layers * self.heads * self.head_size * self.dtype.itemsize


class KVMemory:
    """Keys and values of all layers, in blocks of tokens, all taken at once and never more."""

    def __init__(self, shape: KVShape, *, blocks: int, block_size: int = BLOCK_TOKENS) -> None:
        self.shape = shape
        self.blocks = blocks
        self.block_size = block_size
        self.keys = [_zeros(shape, blocks * block_size) for _ in range(shape.layers)]
        self.values = [_zeros(shape, blocks * block_size) for _ in range(shape.layers)]

    def places(self, blocks: tuple[int, ...] | list[int], tokens: int, start: int = 0) -> torch.Tensor:
        """Where the tokens from `start` to `tokens` of a sequence with these blocks lie."""
        first, last = start // self.block_size, -(-tokens // self.block_size)
        begins = torch.tensor(blocks[first:last], dtype=torch.long).unsqueeze(1) * self.block_size
        flat = (begins + torch.arange(self.block_size)).flatten()
        skipped = start - first * self.block_size
        return flat[skipped : skipped + tokens - start].to(self.shape.device)

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put a step's keys and values (token, head, size) where they belong."""
        self.keys[layer].index_copy_(0, places, keys)
        self.values[layer].index_copy_(0, places, values)

    def copy(self, copy: Copy) -> None:
        """Copy what one sequence has computed to the blocks of another."""
        source = self.places(copy.source, copy.tokens)
        target = self.places(copy.target, copy.tokens)
        for each in (*self.keys, *self.values):
            each.index_copy_(0, target, each.index_select(0, source))


def _zeros(shape: KVShape, tokens: int) -> torch.Tensor:
    """Zeros, since what is masked is still multiplied; on a CPU such that pages are taken when they are written to."""
    size = (tokens, shape.heads, shape.head_size)
    if shape.device.type != "cpu":
        return torch.zeros(size, dtype=shape.dtype, device=shape.device)
    flat = numpy.zeros(tokens * shape.heads * shape.head_size * shape.dtype.itemsize, dtype=numpy.uint8)
    return torch.from_numpy(flat).view(shape.dtype).view(size)
