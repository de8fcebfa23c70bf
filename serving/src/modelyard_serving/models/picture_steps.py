"""From an upright picture to the pixels that a model reads: scaled, cropped, in its order of channels.

What comes out are bytes, which are small to keep and to move; `Scaling` says what the model makes of them, and is
applied to a whole batch at once.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Exactly:
    """Both sides as they are said, in pixels."""

    height: int
    width: int

    def of(self, _width: int, _height: int) -> tuple[int, int]:
        """Width and height of a picture once scaled."""
        return self.width, self.height


@dataclass(frozen=True)
class Shortest:
    """The shorter side as it is said, in pixels; the longer one in proportion, rounded down."""

    edge: int

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a picture once scaled."""
        if width <= height:
            return self.edge, int(self.edge * height / width)
        return int(self.edge * width / height), self.edge


@dataclass(frozen=True)
class PictureSteps:
    """What is done to a picture, in the order of the fields but for the channels, which come last."""

    channels: Literal["RGB", "BGR", "L"] = "RGB"
    resize: Exactly | Shortest | None = None
    resample: Image.Resampling = Image.Resampling.BILINEAR
    crop: tuple[int, int] | None = None
    """Height and width, from the middle; black is added where the picture is smaller."""

    def __call__(self, picture: Image.Image) -> Any:
        """A picture in RGB as a numpy array of bytes, (height, width, channels)."""
        if self.channels == "L":
            picture = picture.convert("L")
        if self.resize is not None:
            picture = picture.resize(self.resize.of(*picture.size), self.resample)
        if self.crop is not None:
            height, width = self.crop
            left, top = (picture.width - width) // 2, (picture.height - height) // 2
            picture = picture.crop((left, top, left + width, top + height))
        pixels = np.asarray(picture)
        if self.channels == "L":
            return pixels[:, :, None]
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.channels == "BGR" else pixels


@dataclass(frozen=True)
class Scaling:
    """From bytes to what the model reads: `(byte * scale - mean) / std`, mean and std for each channel or for all."""

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
