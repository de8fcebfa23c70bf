"""What a server sends from an offset on."""

from collections.abc import Iterator
from http import HTTPStatus

import httpx2


def bytes_from(response: httpx2.Response, offset: int) -> Iterator[bytes]:
    """The body from `offset` of the whole on; who knows no ranges has sent all of it."""
    skip = offset if response.status_code != HTTPStatus.PARTIAL_CONTENT else 0
    for chunk in response.iter_raw():
        rest = chunk[skip:]
        skip = max(0, skip - len(chunk))
        if rest:
            yield rest
