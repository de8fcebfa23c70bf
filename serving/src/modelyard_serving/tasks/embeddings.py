"""Embeddings: texts in, one vector each out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelyard_serving.engines.dynamic_batching import Item
from modelyard_serving.engines.protocol import EngineFailed
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.text_inputs import TextInput, TextInputs


@dataclass(frozen=True)
class Embedded:
    """The vectors of a request's inputs, float32 numpy rows, and the tokens that they had."""

    vectors: list[Any]
    tokens: int


class Embeddings:
    """A model that embeds texts. `shorter` has the lengths besides the full one that it is trained for; None: any."""

    def __init__(
        self, model: BatchedModel[list[int], Any], inputs: TextInputs, *, dimensions: int, normalizes: bool,
        shorter: tuple[int, ...] | None,
    ) -> None:  # fmt: skip
        self._model = model
        self._inputs = inputs
        self._normalizes = normalizes
        self._shorter = shorter
        self.dimensions = dimensions

    async def embed(
        self, inputs: Sequence[TextInput], *, alone: bool, dimensions: int | None, timeout_s: float
    ) -> Embedded:
        """The vector of each input; those cut to fewer dimensions have length 1 where the model's have.

        Raises:
            InvalidInput: an input or the number of dimensions is not one that the model takes.
            QueueFull, TimeoutError, EngineFailed: as `BatchedModel.run` does.
        """
        self._check_dimensions(dimensions)
        rows = await self._inputs.tokenize(inputs, field="input", alone=alone)
        vectors = await self._model.run([Item(row, len(row)) for row in rows], timeout_s=timeout_s)
        if dimensions is not None and dimensions < self.dimensions:
            vectors = [self._cut(vector, dimensions) for vector in vectors]
        if any(not (abs(vector) < float("inf")).all() for vector in vectors):  # NaN compares false
            raise EngineFailed("the model computes no numbers (NaN or infinity) for this input")
        return Embedded(vectors, sum(map(len, rows)))

    def _check_dimensions(self, wanted: int | None) -> None:
        full = self.dimensions
        if wanted is None or wanted == full or (wanted < full and (self._shorter is None or wanted in self._shorter)):
            return
        allowed = f"1 to {full}" if self._shorter is None else ", ".join(map(str, sorted({*self._shorter, full})))
        message = f"{wanted} is none of the model's: its vectors have {allowed} dimensions"
        raise InvalidInput("dimensions", message if self._shorter != () else f"{message} and cannot be shortened")

    def _cut(self, vector: Any, dimensions: int) -> Any:
        short = vector[:dimensions]
        return short / max(float((short**2).sum()) ** 0.5, 1e-12) if self._normalizes else short
