"""The scores of an image classifier for a batch of pictures, and how one of transformers is loaded."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.models.folder import ModelFolder
from modelyard_serving.models.loading import TRUSTED, failures_told, load_pretrained
from modelyard_serving.models.picture_inputs import PictureInputs, Prepared, inputs_of

Network = Callable[[dict[str, torch.Tensor]], torch.Tensor]
"""From inputs by name to rows of scores."""


class PictureScores:
    """Computes one row of scores for each prepared picture, before any softmax or sigmoid."""

    def __init__(self, network: Network, inputs: PictureInputs, device: Any, dtype: torch.dtype) -> None:
        self.inputs = inputs
        self._network = network
        self._device = device
        self._dtype = dtype

    def __call__(self, batch: Sequence[Prepared]) -> list[Any]:
        """A float32 numpy row for each; pictures of different shapes, which some models read, are computed apart."""
        places: dict[Any, list[int]] = {}
        for place, each in enumerate(batch):
            places.setdefault(tuple((name, array.shape) for name, array in each.items()), []).append(place)
        rows: list[Any] = [None] * len(batch)
        with torch.inference_mode():
            for alike in places.values():
                inputs = self.inputs.join([batch[place] for place in alike], self._device, self._dtype)
                for place, row in zip(alike, self._network(inputs).float().cpu().numpy(), strict=True):
                    rows[place] = row
        return rows


def load_picture_scores(folder: ModelFolder, settings: Any, config: ReplicaConfig) -> PictureScores:
    """Read the image processor and the weights of a transformers folder, in the type that they are stored in.

    Raises:
        StartFailure: no GPU where one was promised, files that do not fit the architecture, or memory that ends on
            the way.
    """
    model = load_pretrained(folder, settings, config, AutoModelForImageClassification)
    with failures_told(config.model.uri):
        processor = AutoImageProcessor.from_pretrained(folder.path, backend="pil", **TRUSTED)
    model.to(memory_format=torch.channels_last)
    return PictureScores(lambda inputs: model(**inputs).logits, inputs_of(processor), model.device, model.dtype)
