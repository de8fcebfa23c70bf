"""How much memory keys and values may take."""

import os

import torch

from modelyard_serving.engines.batching.kv_memory import BLOCK_TOKENS, KVShape
from modelyard_serving.engines.batching.sequence import blocks_for

SHARE_OF_FREE = 0.7
"""Of the memory that weights and process leave; the rest is for what a step computes and what requests bring."""
SHARE_OF_MACHINE = 0.25
"""Where nobody says how much memory the replica has, as on a developer's machine."""
LEAST_TOKENS = 2048
"""However little memory there is: what `RUNTIME_BYTES` has room for with a small model."""


def kv_blocks(
    shape: KVShape, *, context: int, max_running: int, free_bytes: int, block_size: int = BLOCK_TOKENS
) -> int:
    """As many blocks as `free_bytes` hold: at most a whole context for each that runs, at least `LEAST_TOKENS`.

    One more is for urgent requests.
    """
    whole = blocks_for(context, block_size)
    least = min(whole, blocks_for(LEAST_TOKENS, block_size))
    held = free_bytes // (shape.token_bytes * block_size)
    return 1 + max(least, min(held, whole * max_running))


def free_bytes(device: torch.device, *, memory_bytes: int | None, taken_bytes: int) -> int:
    """Bytes for keys and values on `device`, when weights and process take `taken_bytes` of the host's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_FREE)
    if memory_bytes is None:
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * SHARE_OF_MACHINE)
    return max(int((memory_bytes - taken_bytes) * SHARE_OF_FREE), 0)
