"""Image classification as named arrays: files of pictures as BYTES in, labels and scores out."""

from collections.abc import Mapping

import numpy as np

from modelyard_serving.tasks.image_classification import GivenPicture, ImageClassification
from modelyard_serving.tasks.tensors import ANY, Array, Datatype, Extent, TensorInfo, exactly

MAX_PICTURES = 32
"""As in a request of /v1/classify."""


class PictureTensors:
    """`image`, jpeg, png or webp files, in; for each all `label`s, best first, and their `score`s out."""

    platform = "pytorch_images"
    inputs = (TensorInfo("image", Datatype.BYTES, (Extent(1, MAX_PICTURES),)),)

    def __init__(self, task: ImageClassification, labels: int) -> None:
        self._task = task
        self._labels = labels
        shape = (ANY, exactly(labels))
        self.outputs = (TensorInfo("label", Datatype.BYTES, shape), TensorInfo("score", Datatype.FP32, shape))

    async def infer(self, given: Mapping[str, Array], *, timeout_s: float) -> Mapping[str, Array]:
        """As `TensorModel` says."""
        pictures = [GivenPicture(file, f"inputs.image.{place}") for place, file in enumerate(given["image"])]
        found = await self._task.classify(pictures, top_k=self._labels, timeout_s=timeout_s)
        return {
            "label": np.array([[scored.label.encode() for scored in row] for row in found], dtype=object),
            "score": np.array([[scored.score for scored in row] for row in found], np.float32),
        }
