"""From the bytes of a file to an upright picture in RGB, as transformers' pipeline and torchvision's loaders see it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from modelyard_serving.models.picture_bounds import MAX_PIXELS, BadPicture, check_bytes, check_size

FORMATS = ("JPEG", "PNG", "WEBP")
"""No other decoder of Pillow ever sees what a client sends."""

Image.MAX_IMAGE_PIXELS = None  # ours is lower, and an error instead of a warning


class Room:
    """Pixels that all threads may hold together; who comes first goes first, so that a large picture has its turn."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        """So many, once they are free; blocks."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: pixels <= self._free)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


ROOM = Room(MAX_PIXELS)
"""As for one picture of the largest size: a small file can have that many pixels, and a request many such files."""


@contextmanager
def decoded(raw: bytes) -> Iterator[Image.Image]:
    """What `decode` makes of a file, for the time of the block; waits while others hold too many pixels."""
    with ROOM.held(_pixels(raw)):
        yield decode(raw)


def decode(raw: bytes) -> Image.Image:
    """The picture in RGB, turned as its EXIF data say; of transparent pixels the colour counts, as models are trained.

    Takes up to 18 bytes for each pixel while it runs (webp). Safe in many threads, which Pillow lets work side by side.

    Raises:
        BadPicture: it is no jpeg, png or webp, damaged, animated, or out of bounds.
    """
    check_bytes(len(raw))
    try:
        with Image.open(BytesIO(raw), formats=FORMATS) as picture:
            check_size(*picture.size)
            _check_still(picture)
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return _in_rgb(picture)
    except UnidentifiedImageError as error:
        raise BadPicture("is no jpeg, png or webp") from error
    except (BadPicture, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise every kind of error for damaged files
        raise BadPicture(f"is damaged: {error}") from error


def _pixels(raw: bytes) -> int:
    try:
        with Image.open(BytesIO(raw), formats=FORMATS) as picture:
            return min(picture.width * picture.height, MAX_PIXELS)
    except Exception:  # noqa: BLE001 - `decode` says what is wrong
        return 0


def _check_still(picture: Image.Image) -> None:
    # A jpeg with several pictures (MPO) is no film: phones add previews and depth maps to the first, which counts.
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if frames > 1:
        raise BadPicture(f"is animated, with {frames} frames; send one of them")


def _in_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion would cut values off at 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")
