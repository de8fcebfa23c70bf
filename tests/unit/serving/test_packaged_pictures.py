"""Image classification with an exported program, against the same steps done one by one in numpy."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image
from tests.unit.serving.tiny import config_for
from tests.unit.serving.tiny_pictures import PREPROCESSING, as_file, picture, write_colours
from tests.unit.serving.tiny_program import tensor

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.models.packaged_pictures import steps_of
from modelyard_serving.models.picture_inputs import SteppedPictures
from modelyard_serving.models.picture_steps import Scaling
from modelyard_serving.package.description import ImagePreprocessing
from modelyard_serving.replica import Replica

PICTURES = [picture(1, 90, 50), picture(2, 40, 100), picture(3, 24, 32), picture(4, 7, 7)]


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder))
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://replica") as client:
        yield client
    await asyncio.to_thread(replica.close)


async def _labels(client: httpx2.AsyncClient, *pictures: Image.Image) -> list[dict[str, float]]:
    files = [base64.b64encode(as_file(each, "PNG")).decode() for each in pictures]
    answer = await client.post("/v1/classify", json={"model": "team-a/tiny", "input": files})
    assert answer.status_code == 200, answer.text
    return [{each["label"]: each["score"] for each in found["labels"]} for found in answer.json()["data"]]


def _values(shown: Image.Image) -> Any:
    """`PREPROCESSING` by hand, (height, width, channels)."""
    short = min(shown.size)
    large = shown.resize((36 * shown.width // short, 36 * shown.height // short), Image.Resampling.BICUBIC)
    left, top = (large.width - 24) // 2, (large.height - 32) // 2
    pixels = np.asarray(large)[top : top + 32, left : left + 24]
    return (pixels / 255 - np.array(PREPROCESSING["mean"])) / np.array(PREPROCESSING["std"])


def _wanted(shown: Image.Image) -> Any:
    return torch.tensor(_values(shown).mean((0, 1)) * 4).softmax(0).tolist()


@pytest.mark.parametrize("rows", [16, 3, None])
async def test_a_program_sees_what_its_package_says(tmp_path: Path, log: Path, rows: int | None) -> None:
    folder = write_colours(tmp_path / "model", rows=rows, labels=["red", "green", "blue"])
    async with _serving(folder) as client:
        found = await _labels(client, *PICTURES)
        again = await asyncio.gather(*(_labels(client, each) for each in PICTURES))
    for place, shown in enumerate(PICTURES):
        wanted = pytest.approx(dict(zip(("red", "green", "blue"), _wanted(shown), strict=True)), abs=1e-5)
        assert found[place] == wanted
        assert again[place][0] == wanted


async def test_without_labels_their_numbers_are_told(tmp_path: Path, log: Path) -> None:
    async with _serving(write_colours(tmp_path / "model")) as client:
        [found] = await _labels(client, PICTURES[0])
    assert sorted(found) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, lambda values: values.transpose(2, 0, 1)),
        ({"layout": "HWC"}, lambda values: values),
        (
            {"channels": "BGR", "mean": [0.6, 0.5, 0.4], "std": [0.3, 0.25, 0.2]},
            lambda values: values[:, :, ::-1].transpose(2, 0, 1),
        ),
    ],
)
def test_order_of_channels_and_layout(changes: dict[str, Any], wanted: Any) -> None:
    said = ImagePreprocessing.model_validate(PREPROCESSING | changes)
    inputs = SteppedPictures(
        steps_of(said), Scaling(said.scale, said.mean, said.std), name="image", channels_first=said.layout == "CHW"
    )
    found = inputs.join([inputs.prepare(as_file(PICTURES[0], "PNG"))], "cpu", torch.float32)["image"]
    np.testing.assert_allclose(found[0], wanted(_values(PICTURES[0])), atol=1e-5)


def test_digits_are_read_in_grey() -> None:
    said = ImagePreprocessing.model_validate(
        {"channels": "L", "resize": {"height": 28, "width": 28}, "scale": 1, "mean": [127], "std": [128]}
    )
    inputs = SteppedPictures(steps_of(said), Scaling(said.scale, said.mean, said.std))
    shown = picture(5, 28, 28)
    found = inputs.join([inputs.prepare(as_file(shown, "PNG"))] * 2, "cpu", torch.float32)["pixel_values"]
    assert found.shape == (2, 1, 28, 28)
    np.testing.assert_allclose(found[1, 0], (np.asarray(shown.convert("L")) - 127.0) / 128, atol=1e-6)


def test_a_picture_smaller_than_the_crop_gets_a_black_border() -> None:
    said = ImagePreprocessing.model_validate(PREPROCESSING | {"resize": None, "crop": {"height": 9, "width": 10}})
    pixels = steps_of(said)(Image.new("RGB", (4, 4), "white"))
    assert pixels.shape == (9, 10, 3)
    assert (pixels[:, :, 0] > 0).sum() == 16
    assert (pixels[3:7, 3:7] == 255).all()


def _signature(shape: list[Any], out: list[Any], dtype: str = "float32", batch: bool = True) -> dict[str, Any]:
    tensors = {"inputs": [tensor("image", dtype, *shape)], "outputs": [tensor("logits", "float32", *out)]}
    return tensors | ({"batch": "batch"} if batch else {})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["red", "green"]}, "there are 2 labels, but the model computes 3 scores"),
        ({"preprocessing": {"crop": {"height": 24, "width": 24}}}, "gives 3 x 24 x 24, but image is 3 x 32 x 24"),
        ({"preprocessing": {"layout": "HWC"}}, "gives 32 x 24 x 3, but image is 3 x 32 x 24"),
        ({"preprocessing": {"crop": None}}, "pictures keep sizes of their own; add crop"),
        ({"signature": _signature(["batch", 3, 32], ["batch", 3])}, "pictures are one input"),
        ({"signature": _signature(["batch", 3, 32, "w"], ["batch", 3])}, "pictures are one input"),
        ({"signature": _signature(["batch", 3, 32, 24], ["batch", 3], "int64")}, "of float32 or float16 or bfloat16"),
        ({"signature": _signature(["batch", 3, 32, 24], ["batch"])}, "logits, the first, must be logits"),
        ({"signature": _signature([2, 3, 32, 24], [2, 3], batch=False)}, "name the first dimension"),
    ],
)
async def test_a_package_that_cannot_be_served(tmp_path: Path, log: Path, changes: dict[str, Any], words: str) -> None:
    folder = write_colours(tmp_path / "model", **changes)
    with pytest.raises(StartFailure) as caught:
        await Replica(Journal.open()).configure(config_for(folder))
    assert caught.value.reason is FailureReason.MODEL_INVALID
    assert words in caught.value.message
