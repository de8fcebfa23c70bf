"""Rerank: a query and documents in, the documents by relevance out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelyard_serving.engines.dynamic_batching import Item
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.classification import Activation, activate
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.text_inputs import TextInputs


@dataclass(frozen=True)
class Ranked:
    """Places in the list of documents with their relevance from 0 to 1, best first, and the tokens read."""

    documents: list[tuple[int, float]]
    tokens: int


class Rerank:
    """A cross-encoder: reads the query with each document."""

    def __init__(self, model: BatchedModel[dict[str, list[int]], Any], inputs: TextInputs) -> None:
        self._model = model
        self._inputs = inputs

    async def rank(
        self, query: str, documents: Sequence[str], *, document_tokens: int | None, timeout_s: float
    ) -> Ranked:
        """All documents by relevance. Each is cut to what is left beside the query, and to `document_tokens`.

        Raises:
            InvalidInput: the query leaves no room for a document.
            QueueFull, TimeoutError, EngineFailed: as `BatchedModel.run` does.
        """
        beside = await asyncio.to_thread(self._inputs.length, query) + self._inputs.pair_tokens
        room = self._inputs.max_tokens - beside
        if room < 1:
            message = f"has {1 - room} tokens too many: the model reads {self._inputs.max_tokens} with the document"
            raise InvalidInput("query", message, code="context_length_exceeded")
        limit = beside + min(room, document_tokens or room)
        pairs = await self._inputs.pair(query, documents, limit)
        items = [Item(pair, len(pair["input_ids"])) for pair in pairs]
        computed = await self._model.run(items, timeout_s=timeout_s)
        scores = [activate(row.tolist(), Activation.SIGMOID)[0] for row in computed]
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        return Ranked([(place, scores[place]) for place in order], sum(item.length for item in items))
