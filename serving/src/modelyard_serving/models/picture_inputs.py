"""Pictures as a model's inputs: what happens to each in threads of its own, and how many become a batch of tensors."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from modelyard_serving.models.picture_decoding import decoded
from modelyard_serving.models.picture_steps import Exactly, PictureSteps, Scaling, Shortest

Prepared = dict[str, Any]
"""Numpy arrays by the names of the model's inputs, for one picture."""

PIXELS = "pixel_values"
TRIAL_SIZES = ((61, 47), (40, 90), (300, 260), (1, 1))
"""Width and height of the pictures that show whether the steps are the processor's."""


class PictureInputs(Protocol):
    """How a model reads pictures."""

    def prepare(self, raw: bytes) -> Prepared:
        """One file; raises `BadPicture`. Called in many threads."""

    def join(self, batch: Sequence[Prepared], device: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Pictures of the same shapes as one batch."""


class ProcessedPictures:
    """Reads pictures with an image processor of transformers, whatever it does."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def prepare(self, raw: bytes) -> Prepared:
        with decoded(raw) as picture:
            return self.process(picture)

    def process(self, picture: Image.Image) -> Prepared:
        """What the processor makes of a picture in RGB."""
        arrays = self._processor(images=picture, return_tensors="np")
        return {name: np.asarray(array)[0] for name, array in arrays.items()}

    def join(self, batch: Sequence[Prepared], device: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        tensors = {name: torch.from_numpy(np.stack([each[name] for each in batch])).to(device) for name in batch[0]}
        return {name: each.to(dtype) if each.is_floating_point() else each for name, each in tensors.items()}


class SteppedPictures:
    """Reads pictures by plain steps, and scales their values for a whole batch at once, on the model's device."""

    def __init__(
        self, steps: PictureSteps, scaling: Scaling, *, name: str = PIXELS, channels_first: bool = True
    ) -> None:
        self.steps = steps
        self._name = name
        self._channels_first = channels_first
        std = torch.tensor(scaling.std)
        self._factor = scaling.scale / std
        self._offset = torch.tensor(scaling.mean) / std

    def prepare(self, raw: bytes) -> Prepared:
        with decoded(raw) as picture:
            return {self._name: self.steps(picture)}

    def join(self, batch: Sequence[Prepared], device: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        pixels = torch.from_numpy(np.stack([each[self._name] for each in batch])).to(device)
        values = (pixels * self._factor.to(device) - self._offset.to(device)).to(dtype)
        # A view: the values stay where they are, channels last, which is what convolutions do best.
        return {self._name: values.permute(0, 3, 1, 2) if self._channels_first else values}


def inputs_of(processor: Any) -> PictureInputs:
    """The plain steps of an image processor where they do what it does, else the processor itself."""
    own = ProcessedPictures(processor)
    try:
        stepped = _stepped(processor)
        same = all(_same(own, stepped, picture) for picture in _trials())
    except Exception:  # noqa: BLE001 - settings of a kind that plain steps do not have
        return own
    return stepped if same else own


def _stepped(processor: Any) -> SteppedPictures:
    edge = processor.size and processor.size.shortest_edge
    crop = processor.crop_size if processor.do_center_crop else None
    cropped = (crop.height, crop.width) if crop else None
    resize: Exactly | Shortest | None = None
    if processor.do_resize and edge and getattr(processor, "crop_pct", None):  # ConvNeXT's processor, and ResNet's
        resize, cropped = Shortest(int(edge / processor.crop_pct)), (edge, edge)
        if edge >= 384:
            resize, cropped = Exactly(edge, edge), None
    elif processor.do_resize:
        resize = Shortest(edge) if edge else Exactly(processor.size.height, processor.size.width)
    scaling = Scaling(
        processor.rescale_factor if processor.do_rescale else 1.0,
        _each(processor.image_mean) if processor.do_normalize else (0.0,),
        _each(processor.image_std) if processor.do_normalize else (1.0,),
    )
    return SteppedPictures(PictureSteps("RGB", resize, Image.Resampling(processor.resample), cropped), scaling)


def _each(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(map(float, value))


def _trials() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8)) for width, height in TRIAL_SIZES]


def _same(one: ProcessedPictures, other: SteppedPictures, picture: Image.Image) -> bool:
    wanted = one.join([one.process(picture)], "cpu", torch.float32)
    found = other.join([{PIXELS: other.steps(picture)}], "cpu", torch.float32)
    same_names = wanted.keys() == found.keys()
    return same_names and all(torch.allclose(wanted[name], found[name], rtol=1e-4, atol=1e-4) for name in wanted)


def some_picture() -> bytes:
    """A file to warm up and to prove with."""
    file = BytesIO()
    Image.new("RGB", (320, 240), "gray").save(file, "JPEG")
    return file.getvalue()
