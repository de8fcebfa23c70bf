"""What `modelyard.yaml` says of a model. docs/model-package.md has it for users."""

import re
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, model_validator

from modelyard_serving.contract import Task

PROGRAM_TASKS = frozenset({Task.TENSOR, Task.IMAGE_CLASSIFICATION, Task.RECOMMEND})
"""Tasks that can run a torch.export program; the others need a folder of transformers."""

MAX_SIZE = 2**31 - 1
ANY_SIZE = -1

INPUT_OF_USERS, INPUT_OF_ITEMS, SCORES = "user", "items", "scores"
"""The tensors of a recommender: it takes places of users or of items, and scores every item."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class DType(StrEnum):
    """The type of a tensor's values, by torch's name for it."""

    BOOL = "bool"
    UINT8 = "uint8"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name: letters, digits and _, a letter or _ first, 100 at most")
    return text


def _dimension(value: Any) -> int | str:
    if isinstance(value, str):
        return _name(value)
    if type(value) is int and (value == ANY_SIZE or 1 <= value <= MAX_SIZE):
        return value
    raise ValueError(f"{value!r} is no dimension: a size from 1, -1 for any size, or a name for any size")


def _file(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path != "/".join(parts) or ".." in parts or path.startswith("/"):
        raise ValueError(f"{path!r} is no file of the folder: write its path from the folder on, with /")
    return path


Name = Annotated[str, AfterValidator(_name)]
File = Annotated[str, AfterValidator(_file)]
Dimension = Annotated[int | str, PlainValidator(_dimension)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Described):
    """A tensor that goes in or comes out."""

    name: Name
    dtype: DType
    shape: Annotated[tuple[Dimension, ...], Field(max_length=32)]
    """Sizes; -1 is any size, a name too, and the same one wherever it stands."""


class Signature(_Described):
    """What a program takes and gives."""

    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=256)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=256)]
    batch: Name | None = None
    """The first dimension of every tensor, along which requests are joined; None: they are computed one by one."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for side, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [spec.name for spec in specs]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{side}: {twice} is there twice")
            stray = next((spec.name for spec in specs if self.batch and spec.shape[:1] != (self.batch,)), None)
            if stray is not None:
                raise ValueError(
                    f"batch: {self.batch} is not the first dimension of {stray}; it must be of every tensor"
                )
            if any(self.batch in spec.shape[1:] for spec in specs if self.batch):
                raise ValueError(
                    f"batch: {self.batch} is another dimension of {side} too; requests could not be joined"
                )
        return self


class Size(_Described):
    """Pixels."""

    height: int = Field(ge=1, le=8192)
    width: int = Field(ge=1, le=8192)


class Shortest(_Described):
    """The shorter side gets so many pixels, the other as many as keep the proportions."""

    shortest: int = Field(ge=1, le=8192)


class Channels(StrEnum):
    """What the values of a pixel are, in their order."""

    RGB = "RGB"
    BGR = "BGR"
    GREY = "L"


class Resample(StrEnum):
    """How a picture is made larger or smaller, by Pillow's names."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"
    BOX = "box"
    HAMMING = "hamming"


class ImagePreprocessing(_Described):
    """From a picture to the tensor that the program takes: resize, crop, (pixel * scale - mean) / std."""

    channels: Channels = Channels.RGB
    resize: Size | Shortest | None = None
    resample: Resample = Resample.BILINEAR
    crop: Size | None = None
    """From the centre, after the resize."""
    scale: float = Field(default=1 / 255, gt=0)
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=3)]
    layout: Literal["CHW", "HWC"] = "CHW"

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        for field, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != len(self.channels.value):
                raise ValueError(f"{field}: has {len(values)} values; {self.channels.value} needs one for each channel")
        return self


class Preprocessing(_Described):
    """What happens to an input before the program sees it."""

    image: ImagePreprocessing


class Recommendation(_Described):
    """The files that say what the numbers of a recommender's program stand for. Ids are lines of UTF-8."""

    items: File
    """The ids of the items, in the order of their scores."""
    users: File | None = None
    """The ids of the users, in the order of the program's; None: the program takes items."""
    seen: File | None = None
    """A safetensors file with what each user has had: `offsets`, int64 (users + 1), and `items`, int64, their places.
    Those of user u are `items[offsets[u]:offsets[u + 1]]`."""


class Metric(_Described):
    """How good the model was found to be."""

    name: Text
    value: float = Field(allow_inf_nan=False)
    dataset: Text | None = None
    split: Text | None = None


class Provenance(_Described):
    """Where the model comes from."""

    source: Text | None = None
    created: datetime | None = None
    made_with: dict[str, Text] = {}
    """Versions of what made it, by name."""


class PackedFile(_Described):
    """What a file must be."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class PackageDescription(_Described):
    """`modelyard.yaml`."""

    format: Literal[1]
    task: Task
    program: Annotated[File, Field(pattern=r"\.pt2$")] | None = None
    """The file with a torch.export program; None: the folder is one of transformers."""
    signature: Signature | None = None
    preprocessing: Preprocessing | None = None
    recommendation: Recommendation | None = None
    labels: Annotated[tuple[Text, ...], Field(max_length=100_000)] = ()
    metrics: Annotated[tuple[Metric, ...], Field(max_length=1000)] = ()
    provenance: Provenance = Provenance()
    licence: Text | None = None
    """An SPDX expression."""
    files: dict[File, PackedFile] = {}

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.program is None:
            needing = [name for name in ("signature", "preprocessing") if getattr(self, name) is not None]
            if self.task is Task.TENSOR:
                raise ValueError("program: the task tensor runs a torch.export program; name its .pt2 file")
            if needing:
                raise ValueError(f"{needing[0]}: belongs to a program; leave it out where transformers' files tell it")
            return self
        if self.task not in PROGRAM_TASKS:
            known = ", ".join(sorted(PROGRAM_TASKS))
            raise ValueError(f"program: the task {self.task} does not run programs; those that do are {known}")
        if self.signature is None:
            raise ValueError("signature: a program needs one; `modelyard package` writes it")
        if self.preprocessing is not None and self.task is Task.TENSOR:
            raise ValueError("preprocessing: the task tensor takes its inputs as they are; leave it out")
        if self.preprocessing is None and self.task is Task.IMAGE_CLASSIFICATION:
            raise ValueError("preprocessing: image-classification needs its image; say how a picture becomes the input")
        if self.program not in self.files:
            raise ValueError(f"files: {self.program} is missing; `modelyard package` writes its size and checksum")
        return self

    @model_validator(mode="after")
    def _recommendation_fits(self) -> Self:
        if self.task is not Task.RECOMMEND:
            if self.recommendation is not None:
                raise ValueError(f"recommendation: belongs to the task recommend, not to {self.task}; leave it out")
            return self
        if self.signature is None:
            raise ValueError("program: the task recommend runs a torch.export program; name its .pt2 file")
        if self.recommendation is None:
            raise ValueError("recommendation: is missing; it names the files with the ids of items and users")
        _check_recommender(self.signature, self.recommendation)
        named = (self.recommendation.items, self.recommendation.users, self.recommendation.seen)
        missing = next((name for name in named if name is not None and name not in self.files), None)
        if missing is not None:
            raise ValueError(f"files: {missing} of recommendation is missing; `modelyard package` writes its checksum")
        return self


def _check_recommender(signature: Signature, recommendation: Recommendation) -> None:
    """A recommender takes user (batch) or items (batch, any) of int64, and gives scores (batch, items) of float32."""
    given, computed = signature.inputs[0], signature.outputs[0]
    dimensions = {INPUT_OF_USERS: 1, INPUT_OF_ITEMS: 2}.get(given.name)
    fixed = any(size != ANY_SIZE and isinstance(size, int) for size in given.shape)
    if len(signature.inputs) != 1 or len(given.shape) != dimensions or given.dtype is not DType.INT64 or fixed:
        raise ValueError(
            f"signature: a recommender has one input: {INPUT_OF_USERS}, int64 [batch], or {INPUT_OF_ITEMS}, int64 "
            "[batch, history]"
        )
    scored = len(computed.shape) == 2 and isinstance(computed.shape[1], int) and computed.shape[1] != ANY_SIZE
    if len(signature.outputs) != 1 or computed.name != SCORES or computed.dtype is not DType.FLOAT32 or not scored:
        raise ValueError(f"signature: a recommender has one output: {SCORES}, float32 [batch, number of items]")
    if signature.batch is None:
        raise ValueError("signature: a recommender needs batch, the name of the first dimension of both tensors")
    if (recommendation.users is not None) != (given.name == INPUT_OF_USERS):
        raise ValueError(f"recommendation: users is needed where the input is {INPUT_OF_USERS}, and only there")
    if recommendation.seen is not None and recommendation.users is None:
        raise ValueError("recommendation: seen says what users have had, and this program knows no users; leave it out")
