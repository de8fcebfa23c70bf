"""Tasks on texts as named arrays: texts as BYTES in, numbers and labels out."""

from collections.abc import Mapping

import numpy as np

from modelyard_serving.tasks.classification import TextClassification
from modelyard_serving.tasks.embeddings import Embeddings
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.tensors import ANY, Array, Datatype, Extent, TensorInfo, exactly

PLATFORM = "pytorch_transformers"
MAX_TEXTS = 2048
"""As in a request of OpenAI's API."""
TEXT = TensorInfo("text", Datatype.BYTES, (Extent(1, MAX_TEXTS),))


class EmbeddingTensors:
    """`text` in, a row of `embedding` for each out."""

    platform = PLATFORM
    inputs = (TEXT,)

    def __init__(self, task: Embeddings) -> None:
        self._task = task
        self.outputs = (TensorInfo("embedding", Datatype.FP32, (ANY, exactly(task.dimensions))),)

    async def infer(self, given: Mapping[str, Array], *, timeout_s: float) -> Mapping[str, Array]:
        """As `TensorModel` says."""
        texts = read_texts(given)
        embedded = await self._task.embed(texts, alone=False, dimensions=None, timeout_s=timeout_s)
        return {"embedding": np.stack(embedded.vectors)}


class ClassificationTensors:
    """`text` in; for each all `label`s, best first, and their `score`s out."""

    platform = PLATFORM
    inputs = (TEXT,)

    def __init__(self, task: TextClassification, labels: int) -> None:
        self._task = task
        shape = (ANY, exactly(labels))
        self.outputs = (TensorInfo("label", Datatype.BYTES, shape), TensorInfo("score", Datatype.FP32, shape))

    async def infer(self, given: Mapping[str, Array], *, timeout_s: float) -> Mapping[str, Array]:
        """As `TensorModel` says."""
        found = await self._task.classify(read_texts(given), alone=False, top_k=None, timeout_s=timeout_s)
        return {
            "label": np.array([[scored.label.encode() for scored in row] for row in found.labels], dtype=object),
            "score": np.array([[scored.score for scored in row] for row in found.labels], np.float32),
        }


def read_texts(given: Mapping[str, Array]) -> list[str]:
    """The texts of the input `text`; raises `InvalidInput` where one is no UTF-8."""
    texts = []
    for place, text in enumerate(given[TEXT.name]):
        try:
            texts.append(text.decode())
        except UnicodeDecodeError as error:
            raise InvalidInput(f"inputs.{TEXT.name}.{place}", "is no UTF-8") from error
    return texts
