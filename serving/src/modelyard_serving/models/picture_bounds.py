"""What a picture may be, before anything of it is decoded."""

MAX_PICTURE_BYTES = 8 * 2**20
"""Of the file, not of base64."""

MAX_PIXELS = 2**25
"""33 million: what cameras make, and 100 MB once decoded."""

MAX_RATIO = 32
"""Of the longer side to the shorter: where the shorter one is scaled up to a model's size, the longer one grows too."""


class BadPicture(Exception):
    """The bytes are no picture that is taken here; the text says why."""


def check_bytes(count: int) -> None:
    """Raise `BadPicture` for a file that is empty or too large."""
    if not count:
        raise BadPicture("is empty; send the bytes of a jpeg, png or webp file")
    if count > MAX_PICTURE_BYTES:
        raise BadPicture(f"has {count} bytes; a picture may have {MAX_PICTURE_BYTES}")


def check_size(width: int, height: int) -> None:
    """Raise `BadPicture` for pixels that are too many or too far apart."""
    if width * height > MAX_PIXELS:
        raise BadPicture(f"has {width} x {height} pixels; a picture may have {MAX_PIXELS}: scale it down")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadPicture(f"has {width} x {height} pixels; a side may be {MAX_RATIO} times the other: crop it")
