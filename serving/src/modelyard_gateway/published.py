"""How a route document stands in its ConfigMap: as text, or compressed where that would not fit."""

import base64
import gzip
import zlib
from collections.abc import Mapping

from modelyard_gateway.routes import CONFIG_MAP, CONFIG_MAP_KEY

PACKED_KEY = "routes.json.gz"

_MOST_TEXT = 900_000
"""Bytes: the API server takes no ConfigMap of more than a mebibyte, which is about 2,900 routes."""
_MOST_UNPACKED = 64_000_000
"""Bytes, far above what a mebibyte of routes unpacks to."""
_GZIP = 31
"""What zlib calls a gzip header and the largest window."""


def publishable(text: str) -> dict[str, dict[str, str]]:
    """The content of the ConfigMap for a document."""
    content = text.encode()
    if len(content) <= _MOST_TEXT:
        return {"data": {CONFIG_MAP_KEY: text}}
    return {"binaryData": {PACKED_KEY: base64.b64encode(gzip.compress(content, mtime=0)).decode()}}


def published_text(data: Mapping[str, str] | None, binary_data: Mapping[str, str] | None) -> str | None:
    """The document in a ConfigMap; None where there is none.

    Raises:
        ValueError: what is there cannot be unpacked.
    """
    packed = (binary_data or {}).get(PACKED_KEY)
    if packed is None:
        return (data or {}).get(CONFIG_MAP_KEY)
    unpacking = zlib.decompressobj(_GZIP)
    try:
        text = unpacking.decompress(base64.b64decode(packed), _MOST_UNPACKED)
    except zlib.error as error:
        raise ValueError(f"{PACKED_KEY} of ConfigMap {CONFIG_MAP} cannot be unpacked: {error}") from error
    if not unpacking.eof:
        raise ValueError(f"{PACKED_KEY} of ConfigMap {CONFIG_MAP} is cut short, or unpacks to more than 64 MB")
    return text.decode()
