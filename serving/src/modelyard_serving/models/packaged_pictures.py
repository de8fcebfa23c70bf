"""Pictures for an exported program, prepared as its package says."""

from typing import Any

import torch
from PIL import Image

from modelyard_serving.models.picture_inputs import SteppedPictures
from modelyard_serving.models.picture_scores import PictureScores
from modelyard_serving.models.picture_steps import Exactly, PictureSteps, Scaling, Shortest
from modelyard_serving.models.program import Program
from modelyard_serving.package.description import ImagePreprocessing, Size


def of_program(program: Program, said: ImagePreprocessing) -> PictureScores:
    """The scores of a program with one input, whose pictures come first, and logits as the first output."""
    pictures, scores = program.signature.inputs[0], program.signature.outputs[0]
    inputs = SteppedPictures(
        steps_of(said), Scaling(said.scale, said.mean, said.std), name=pictures.name,
        channels_first=said.layout == "CHW",
    )  # fmt: skip

    def network(tensors: dict[str, Any]) -> torch.Tensor:
        # A program computes what it was traced with: the order of values in memory may be part of it.
        plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
        return program(plain)[scores.name]

    return PictureScores(network, inputs, program.device, getattr(torch, pictures.dtype))


def steps_of(said: ImagePreprocessing) -> PictureSteps:
    """What modelyard.yaml says of a picture before its values are scaled."""
    resize: Exactly | Shortest | None = None
    if said.resize is not None:
        size = said.resize
        resize = Exactly(size.height, size.width) if isinstance(size, Size) else Shortest(size.shortest)
    crop = (said.crop.height, said.crop.width) if said.crop else None
    return PictureSteps(said.channels.value, resize, Image.Resampling[said.resample.value.upper()], crop)
