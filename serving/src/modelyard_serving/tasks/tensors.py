"""Named arrays in and out, whatever computes them: what the Open Inference Protocol speaks of.

Arrays are numpy's, with two types that it lacks: bfloat16 is kept as the uint16 of its bits, texts as bytes objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from modelyard_serving.tasks.invalid import InvalidInput

Array = np.ndarray[Any, Any]


class Datatype(StrEnum):
    """The protocol's types."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


STORED: Mapping[Datatype, Any] = {
    Datatype.BOOL: np.dtype("?"), Datatype.UINT8: np.dtype("u1"), Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"), Datatype.UINT64: np.dtype("<u8"), Datatype.INT8: np.dtype("i1"),
    Datatype.INT16: np.dtype("<i2"), Datatype.INT32: np.dtype("<i4"), Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"), Datatype.BF16: np.dtype("<u2"), Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"), Datatype.BYTES: np.dtype("O"),
}  # fmt: skip


@dataclass(frozen=True)
class Extent:
    """A dimension: from `least` to `most` (None: no bound); those of the same `name` are equal."""

    least: int
    most: int | None
    name: str = ""

    @property
    def size(self) -> int:
        """As the protocol tells it: -1 where it may differ."""
        return self.least if self.least == self.most else -1

    def __str__(self) -> str:
        return f"{self.least} to {self.most}" if self.most is not None else f"at least {self.least}"


ANY = Extent(1, None)


def exactly(size: int) -> Extent:
    """A dimension that is always the same."""
    return Extent(size, size)


@dataclass(frozen=True)
class TensorInfo:
    """A tensor that a model takes or gives."""

    name: str
    datatype: Datatype
    shape: tuple[Extent, ...]


@dataclass(frozen=True)
class GivenTensor:
    """A tensor of a request; the array has its shape."""

    datatype: Datatype
    array: Array


class TensorModel(Protocol):
    """A model with named arrays in and out."""

    @property
    def platform(self) -> str:
        """What computes, in the protocol's words: `<project>_<format>`."""

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """All of them must be given."""

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """All of them come back, in this order."""

    async def infer(self, given: Mapping[str, Array], *, timeout_s: float) -> Mapping[str, Array]:
        """The outputs of inputs that `check_inputs` has let pass.

        Raises:
            InvalidInput: an input has a value that the model cannot do.
            QueueFull, TimeoutError, EngineFailed: as `BatchedModel.run` does.
        """


def check_inputs(infos: Sequence[TensorInfo], given: Mapping[str, GivenTensor]) -> None:
    """Hold a request's inputs to what the model takes.

    Raises:
        InvalidInput: one is missing, unknown, or of another type or shape.
    """
    expected = {info.name: info for info in infos}
    unknown = next((name for name in given if name not in expected), None)
    if unknown is not None:
        raise InvalidInput(f"inputs.{unknown}", f"the model has no such input; it has {', '.join(expected)}")
    named: dict[str, tuple[str, int]] = {}
    for info in infos:
        field = f"inputs.{info.name}"
        tensor = given.get(info.name)
        if tensor is None:
            raise InvalidInput(field, f"is missing; the model's inputs are {', '.join(expected)}")
        if tensor.datatype is not info.datatype:
            raise InvalidInput(f"{field}.datatype", f"is {tensor.datatype}; the model takes {info.datatype}")
        _check_shape(field, info, tensor.array.shape, named)


def _check_shape(field: str, info: TensorInfo, shape: tuple[int, ...], named: dict[str, tuple[str, int]]) -> None:
    wanted = [extent.size for extent in info.shape]
    if len(shape) != len(wanted):
        raise InvalidInput(f"{field}.shape", f"is {list(shape)}; the model takes {wanted}, where -1 is any size")
    for place, (size, extent) in enumerate(zip(shape, info.shape, strict=True)):
        if size < extent.least or (extent.most is not None and size > extent.most):
            wants = str(extent.least) if extent.size >= 0 else str(extent)
            raise InvalidInput(f"{field}.shape", f"is {list(shape)}; dimension {place} must be {wants}")
        if extent.name:
            where, other = named.setdefault(extent.name, (f"dimension {place} of {info.name}", size))
            if other != size:
                raise InvalidInput(
                    f"{field}.shape", f"is {list(shape)}; dimension {place} must be {other}, as {where} is"
                )
