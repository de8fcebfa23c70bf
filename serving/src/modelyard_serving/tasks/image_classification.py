"""Image classification: pictures in, labels with scores out."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard_serving.models.picture_bounds import BadPicture
from modelyard_serving.tasks.classification import Activation, Scored, best
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.prepared import PreparingModel

DATA_URL = "data:"


@dataclass(frozen=True)
class GivenPicture:
    """A picture as a request has it: a file's bytes, or its base64, which may be in a data: URL."""

    content: bytes | str
    field: str
    """Where the request has it."""

    def read(self, prepare: Callable[[bytes], Any]) -> Any:
        """What `prepare` makes of the file; raises `InvalidInput` with the field."""
        try:
            return prepare(self.content if isinstance(self.content, bytes) else _from_base64(self.content))
        except BadPicture as bad:
            raise InvalidInput(self.field, str(bad), code="invalid_image") from bad


class ImageClassification:
    """A model that knows `labels`."""

    def __init__(
        self, model: PreparingModel[GivenPicture, Any, Any], *, labels: tuple[str, ...], activation: Activation
    ) -> None:
        self._model = model
        self._labels = labels
        self._activation = activation

    async def classify(self, pictures: Sequence[GivenPicture], *, top_k: int, timeout_s: float) -> list[list[Scored]]:
        """The `top_k` best labels of each picture, best first; fewer where the model has fewer.

        Raises:
            InvalidInput: a picture cannot be read.
            QueueFull, TimeoutError, EngineFailed: as `PreparingModel.run_raw` does.
        """
        computed = await self._model.run_raw(pictures, timeout_s=timeout_s)
        return [best(row.tolist(), self._labels, self._activation, top_k) for row in computed]


def _from_base64(text: str) -> bytes:
    """The bytes of base64 or of a data: URL (RFC 2397) with base64."""
    if text.startswith(DATA_URL):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise BadPicture("is a data: URL without ;base64")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BadPicture(f"is no base64: {error}") from error
