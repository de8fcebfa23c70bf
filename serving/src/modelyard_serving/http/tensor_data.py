"""The values of tensors as the Open Inference Protocol writes them, in JSON and in binary.

Binary: little endian, row-major, without gaps; BOOL is a byte of 0 or 1, a text of BYTES its length in four bytes and
then itself. (KServe, "Binary Tensor Data Extension".) JSON has no form for FP16 and BF16 there; here both are numbers.
"""

import struct
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.tensors import STORED, Array, Datatype

MAX_DIMENSIONS = 32
MAX_ELEMENTS = 2**31
FLOATS = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)
LENGTH = struct.Struct("<I")


def check_shape(field: str, shape: Sequence[int]) -> int:
    """How many values a tensor of this shape has; raises `InvalidInput` where that is beyond all bounds."""
    # Few of them before they are multiplied: a product of millions takes hours. Of those that are not 0, because numpy
    # refuses an empty array too whose other sizes are too large together.
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or prod(filter(None, shape)) > MAX_ELEMENTS:
        message = (
            f"is {list(shape[:MAX_DIMENSIONS])}; sizes are from 0, {MAX_DIMENSIONS} at most, of {MAX_ELEMENTS} values"
        )
        raise InvalidInput(f"{field}.shape", message)
    return prod(shape)


def from_binary(field: str, datatype: Datatype, shape: Sequence[int], data: memoryview) -> Array:
    """The array in `data`, which it may share.

    Raises:
        InvalidInput: there are too few or too many bytes for the shape, or they are none of the type's.
    """
    count = check_shape(field, shape)
    if datatype is Datatype.BYTES:
        return _texts(field, count, data).reshape(shape)
    wanted = count * STORED[datatype].itemsize
    if len(data) != wanted:
        raise InvalidInput(field, f"has {len(data)} bytes; {datatype} of shape {list(shape)} has {wanted}")
    if datatype is Datatype.BOOL:
        raw = np.frombuffer(data, np.uint8)
        if raw.size and raw.max() > 1:
            raise InvalidInput(field, "has a byte that is neither 0 nor 1, which BOOL has not")
        return raw.view(np.bool_).reshape(shape)
    return np.frombuffer(data, STORED[datatype]).reshape(shape)


def to_binary(datatype: Datatype, array: Array) -> bytes:
    """The array's bytes as they go out."""
    if datatype is not Datatype.BYTES:
        return np.ascontiguousarray(array, STORED[datatype]).tobytes()
    return b"".join(part for text in array.ravel() for part in (LENGTH.pack(len(text)), text))


def from_json(field: str, datatype: Datatype, shape: Sequence[int], data: Any) -> Array:
    """The array in a JSON list, flat or nested as the shape is.

    Raises:
        InvalidInput: it is no such list, or a value is none of the type's.
    """
    count = check_shape(field, shape)
    if not isinstance(data, list):
        raise InvalidInput(f"{field}.data", "must be a list of values, flat or nested as the shape is")
    flat = data if not data or not isinstance(data[0], list) else _flatten(f"{field}.data", data, shape)
    if len(flat) != count:
        raise InvalidInput(f"{field}.data", f"has {len(flat)} values; the shape {list(shape)} has {count}")
    return _values(f"{field}.data", datatype, flat).reshape(shape)


def to_json(name: str, datatype: Datatype, array: Array) -> list[Any]:
    """The array's values as a flat list.

    Raises:
        InvalidInput: JSON has no form for one of them.
    """
    if datatype is Datatype.BYTES:
        try:
            return [text.decode() for text in array.ravel()]
        except UnicodeDecodeError as error:
            raise InvalidInput(f"outputs.{name}", "is no UTF-8; ask for it as binary data") from error
    flat = array.ravel()
    if datatype is Datatype.BF16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    if datatype in FLOATS and not np.isfinite(flat).all():
        raise InvalidInput(f"outputs.{name}", "has NaN or infinity, which JSON cannot write; ask for it as binary data")
    values: list[Any] = flat.tolist()
    return values


def _texts(field: str, count: int, data: memoryview) -> Array:
    texts = np.empty(min(count, len(data) // LENGTH.size + 1), dtype=object)
    place = 0
    for number in range(count):
        begin = place + LENGTH.size
        place = begin + LENGTH.unpack(data[place:begin])[0] if begin <= len(data) else begin
        if place > len(data):
            raise InvalidInput(field, f"has {len(data)} bytes, which end in the middle of text {number} of {count}")
        texts[number] = bytes(data[begin:place])
    if place != len(data):
        raise InvalidInput(field, f"has {len(data)} bytes, of which {count} texts take {place}")
    return texts


def _flatten(field: str, data: list[Any], shape: Sequence[int]) -> list[Any]:
    level = [data]
    for size in shape:
        if not all(isinstance(part, list) and len(part) == size for part in level):
            raise InvalidInput(field, f"is not nested as the shape {list(shape)} is")
        level = list(chain.from_iterable(level))
    return level


def _values(field: str, datatype: Datatype, flat: list[Any]) -> Array:
    allowed: set[type] = {int, float} if datatype in FLOATS else {int}
    if datatype is Datatype.BOOL:
        allowed = {bool}
    elif datatype is Datatype.BYTES:
        allowed = {str}
    stray = set(map(type, flat)) - allowed
    if stray:
        found = next(value for value in flat if type(value) in stray)
        raise InvalidInput(field, f"has {str(found)[:40]!r} ({type(found).__name__}), which {datatype} has not")
    if datatype is Datatype.BYTES:
        texts = np.empty(len(flat), dtype=object)
        texts[:] = [text.encode() for text in flat]
        return texts
    try:
        if datatype in FLOATS:
            return _floats(datatype, flat)
        return np.array(flat, STORED[datatype])
    except OverflowError as error:
        raise InvalidInput(field, f"has a value that is too large for {datatype}") from error


def _floats(datatype: Datatype, flat: list[Any]) -> Array:
    with np.errstate(over="ignore"):
        exact = np.array(flat, np.float64)
        stored = exact.astype(np.float32 if datatype is Datatype.BF16 else STORED[datatype])
    if datatype is Datatype.BF16:
        stored = _nearest_bfloat16(stored)
    finite = (stored & 0x7F80) != 0x7F80 if datatype is Datatype.BF16 else np.isfinite(stored)
    if not finite.all():
        raise OverflowError
    return stored


def _nearest_bfloat16(values: Array) -> Array:
    """The upper halves of float32's bits, rounded to the nearest, of two equally near to the even one."""
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(STORED[Datatype.BF16])
