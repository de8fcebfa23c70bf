"""The library that computes with a processor's tiles (AMX), as Python sees it; its source is in serving/native.

The structures are those of serving/native/llama.c and attention.h, field by field.
"""

import ctypes
import mmap
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).with_name("libmodelyard_text.so")
"""Made when the project is installed or its wheel built; without it models are computed with torch's operations."""
PROCESSOR = Path("/proc/cpuinfo")
NEEDED = {"amx_tile", "amx_bf16", "avx512f", "avx512bw", "avx512vl", "avx512_bf16"}
TILE = 16
"""Rows of a tile; the tokens of a block of keys and values are a multiple of it."""
DEPTH = 32
"""Inputs of a tile; the inputs of every matrix and the size of a head are a multiple of it."""
MOST_SIZE, MOST_GROUP = 128, 16
"""Numbers of a head, and query heads for one key head, at most."""

HUGE_PAGE = 2 << 20

_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class LayerFields(ctypes.Structure):
    """`layer`: packed matrices in bfloat16, norms and biases in float32, 0 for what the model has not."""

    _fields_ = [
        ("before_attention", _POINTER), ("before_mlp", _POINTER), ("query_norm", _POINTER), ("key_norm", _POINTER),
        ("qkv", _POINTER), ("out", _POINTER), ("gate_up", _POINTER), ("down", _POINTER),
        ("qkv_bias", _POINTER), ("out_bias", _POINTER), ("keys", _POINTER), ("values", _POINTER),
    ]  # fmt: skip


class ModelFields(ctypes.Structure):
    """`model`: sizes, layers, and what stands before and after them."""

    _fields_ = [
        ("layers", _INT), ("hidden", _INT), ("heads", _INT), ("kv_heads", _INT), ("size", _INT), ("inner", _INT),
        ("vocabulary", _INT), ("block", _INT), ("epsilon", ctypes.c_float), ("scale", ctypes.c_float),
        ("layer", _POINTER), ("embedding", _POINTER), ("norm", _POINTER), ("head", _POINTER),
    ]  # fmt: skip


class StepFields(ctypes.Structure):
    """`step`: int32 but for float32 angles and logits."""

    _fields_ = [
        ("rows", _INT), ("spans", _INT), ("tokens", _POINTER), ("span", _POINTER), ("blocks", _POINTER),
        ("cosines", _POINTER), ("sines", _POINTER), ("logits", _POINTER), ("best", _POINTER),
    ]  # fmt: skip


@cache
def library() -> ctypes.CDLL | None:
    """The library, where it was made and the processor has what it needs."""
    if not LIBRARY.exists() or not _flags() >= NEEDED:
        return None
    opened = ctypes.CDLL(str(LIBRARY))
    opened.matrix_packed.argtypes, opened.matrix_packed.restype = (_LONG, _LONG), _LONG
    opened.matrix_pack.argtypes, opened.matrix_pack.restype = (_POINTER, _LONG, _LONG, _POINTER), None
    opened.engine_open.argtypes, opened.engine_open.restype = (ctypes.c_int,), _POINTER
    opened.engine_step.argtypes, opened.engine_step.restype = (_POINTER, _POINTER, _POINTER), ctypes.c_int
    opened.engine_close.argtypes, opened.engine_close.restype = (_POINTER,), None
    return opened


class PackedWeights:
    """Memory for packed matrices, in huge pages where the kernel gives them: steps read all of it, and the tables of
    ordinary pages cost a third of the time."""

    def __init__(self, count: int) -> None:
        """Room for `count` numbers of two bytes."""
        self._memory = mmap.mmap(-1, 2 * count + HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(mmap.MADV_HUGEPAGE)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._next = -(-begin // HUGE_PAGE) * HUGE_PAGE

    def take(self, count: int) -> int:
        """The address of the next `count` numbers, a multiple of 64 as long as every count is one of 32."""
        address = self._next
        self._next += 2 * count
        return address


def _flags() -> set[str]:
    try:
        lines = PROCESSOR.read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
