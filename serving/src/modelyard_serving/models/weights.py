"""What the headers of safetensors files say: enough to find damage and to know the size, without reading a weight.

Format: eight bytes with the header's length (little endian), the header as JSON, then the tensors' bytes
(https://github.com/huggingface/safetensors, README, "Format").
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


class DamagedWeights(Exception):
    """A weights file is not what its header promises; the text names the file and what to do."""


@dataclass(frozen=True)
class WeightsSummary:
    """What the model's weights amount to."""

    stored_bytes: int
    elements: int


def summarize(files: list[Path]) -> WeightsSummary:
    """Check the header of each file against the file itself.

    Raises:
        DamagedWeights: a file is cut short, has no valid header, or its tensors do not fill it.
    """
    stored = elements = 0
    for file in files:
        tensors = _read_header(file)
        stored += file.stat().st_size
        elements += sum(_elements(tensor) for tensor in tensors)
    return WeightsSummary(stored, elements)


def _read_header(file: Path) -> list[dict[str, Any]]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 0 < length <= min(MAX_HEADER_BYTES, size - 8):
            raise DamagedWeights(f"{file.name} has no valid safetensors header; copy the file again")
        try:
            header = json.loads(stream.read(length))
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            spans = sorted((int(tensor["data_offsets"][0]), int(tensor["data_offsets"][1])) for tensor in tensors)
            for tensor, (begin, end) in ((tensor, tensor["data_offsets"]) for tensor in tensors):
                item = ITEM_BYTES.get(tensor["dtype"])
                if item is not None and _elements(tensor) * item != end - begin:
                    raise DamagedWeights(f"{file.name}: a tensor's shape does not fit its bytes; copy the file again")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DamagedWeights(f"{file.name} has an unreadable safetensors header; copy the file again") from error
    if not spans or spans[0][0] != 0 or any(one[1] != two[0] for one, two in pairwise(spans)):
        raise DamagedWeights(f"{file.name}: the tensors of its header leave gaps; copy the file again")
    promised = 8 + length + spans[-1][1]
    if promised != size:
        kind = "cut short" if size < promised else "too long"
        raise DamagedWeights(f"{file.name} is {kind}: {size} bytes, its header says {promised}; copy the file again")
    return tensors


def _elements(tensor: dict[str, Any]) -> int:
    count = 1
    for dimension in tensor["shape"]:
        count *= int(dimension)
    return count
