"""Any exported program: the tensors of its signature in and out."""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from modelyard_serving.engines.dynamic_batching import Item
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.tensors import Array, TensorInfo

Arrays = Mapping[str, Array]


class Tensors:
    """A program behind the engine.

    `rows` is how many rows of the batch dimension go into one piece of work; None: requests are never cut nor joined.
    """

    platform = "pytorch_export"

    def __init__(
        self, model: BatchedModel[Arrays, Arrays], *, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo],
        rows: int | None,
    ) -> None:  # fmt: skip
        self._model = model
        self._rows = rows
        self.inputs = inputs
        self.outputs = outputs

    async def infer(self, given: Arrays, *, timeout_s: float) -> Arrays:
        """As `TensorModel` says."""
        if self._rows is None:
            [alone] = await self._model.run([Item(given, 1)], timeout_s=timeout_s)
            return alone
        count = len(given[self.inputs[0].name])
        pieces: list[Item[Arrays]] = [
            Item(
                {name: array[begin : begin + self._rows] for name, array in given.items()},
                min(self._rows, count - begin),
            )
            for begin in range(0, count, self._rows)
        ]
        computed = await self._model.run(pieces, timeout_s=timeout_s)
        return computed[0] if len(computed) == 1 else await asyncio.to_thread(_joined, computed)


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
