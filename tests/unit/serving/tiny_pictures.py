"""Tiny image classifiers with random weights, whole folders as a user would have them, and pictures to show them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.unit.serving.tiny_program import PROGRAM, export, tensor
from transformers import (
    ConvNextImageProcessorPil,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from modelyard_serving.package.writing import write_package

LABELS = {0: "cat", 1: "dog", 2: "fox", 3: "owl", 4: "bee", 5: "ant", 6: "cod"}


def write_resnet(folder: Path, *, processor: Any = None, **settings: Any) -> Path:
    """A ResNet that reads 32 x 32 pixels out of the middle of pictures scaled to 36."""
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        id2label=LABELS, label2id={name: number for number, name in LABELS.items()}, **settings,
    )  # fmt: skip
    return _write(folder, ResNetForImageClassification, config, processor or ConvNextImageProcessorPil(
        size={"shortest_edge": 32}, crop_pct=0.875, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ))  # fmt: skip


def write_vit(folder: Path, **settings: Any) -> Path:
    """A ViT that reads 32 x 32 pixels, whatever shape a picture has."""
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        id2label=LABELS, label2id={name: number for number, name in LABELS.items()}, **settings,
    )  # fmt: skip
    return _write(folder, ViTForImageClassification, config, ViTImageProcessorPil(size={"height": 32, "width": 32}))


def picture(seed: int, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth colours, always the same for a seed."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, channels), np.uint8)
    planes = [Image.fromarray(coarse[:, :, place]).resize((width, height), Image.Resampling.BICUBIC)
              for place in range(channels)]  # fmt: skip
    return Image.merge(mode, planes)


def as_file(image: Image.Image, kind: str, **settings: Any) -> bytes:
    """The bytes of a file of this kind."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def _write(folder: Path, kind: Any, config: Any, processor: Any) -> Path:
    torch.manual_seed(3)
    model = kind(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


class Colours(torch.nn.Module):
    """The mean of each channel, three labels: how red, green and blue a picture is."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": image.mean((2, 3)) * 4, "image_out": image}


PREPROCESSING: dict[str, Any] = {
    "resize": {"shortest": 36}, "resample": "bicubic", "crop": {"height": 32, "width": 24}, "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
}  # fmt: skip


def write_colours(folder: Path, *, rows: int | None = 16, preprocessing: dict[str, Any] = {}, **changes: Any) -> Path:  # noqa: B006 - read only
    """A package of `Colours` for up to `rows` pictures at once; None: for one alone."""
    first: int | str = "batch" if rows else 1
    dynamic = {"image": {0: torch.export.Dim("batch", min=1, max=rows)} if rows else None}
    export(folder, Colours(), {"image": torch.zeros(2 if rows else 1, 3, 32, 24)}, dynamic)
    signature: dict[str, Any] = {
        "inputs": [tensor("image", "float32", first, 3, 32, 24)],
        "outputs": [tensor("logits", "float32", first, 3), tensor("image_out", "float32", first, 3, 32, 24)],
    }
    if rows:
        signature["batch"] = "batch"
    about = {
        "task": "image-classification", "program": PROGRAM, "signature": signature,
        "preprocessing": {"image": PREPROCESSING | preprocessing},
    }  # fmt: skip
    write_package(folder, about | changes)
    return folder
