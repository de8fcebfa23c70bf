"""Requests with a file: multipart/form-data (RFC 7578), read into memory within bounds."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Generic

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from modelyard_serving.http.body import Body, check_model
from modelyard_serving.http.errors import ApiError, invalid_body

MAX_FIELDS = 32
MAX_FIELD_BYTES = 64 * 2**10


class _InMemory(MultiPartParser):
    """Leaves nothing on a disk: a replica's may be read only."""

    spool_max_size = 2**62


@dataclass(frozen=True)
class Upload(Generic[Body]):
    """A request and the file that came with it."""

    body: Body
    file: BinaryIO


async def read_upload(request: Request, served: str, kind: type[Body], *, limit: int) -> Upload[Body]:
    """A request of this kind to the model `served`, with a file in the field `file`.

    Fields whose names end in `[]` are lists.

    Raises:
        ApiError: for any other request, and for one of more than `limit` bytes, as soon as that is seen.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(400, "the body must be multipart/form-data, with the sound in the field file", param="file")
    parser = _InMemory(
        request.headers, _bounded(request, limit), max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        message = f"the body is no valid multipart/form-data: {error.message}"
        raise ApiError(400, message, code="invalid_multipart") from error
    try:
        fields, sent = _sorted(form)
        file = BytesIO(await sent.read())
    finally:
        await form.close()
    try:
        body = kind.model_validate(fields)
    except ValidationError as error:
        raise invalid_body(error) from error
    check_model(body.model, served)
    return Upload(body, file)


def _sorted(form: FormData) -> tuple[dict[str, str | list[str]], UploadFile]:
    """The fields by name, and the file."""
    single: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    file: UploadFile | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "file":
                raise ApiError(400, f"{name}: is a file; the sound goes into the field file", param=name)
            file = value
        elif name.endswith("[]"):
            several.setdefault(name, []).append(value)
        elif name in single:
            raise ApiError(400, f"{name}: is there more than once", param=name)
        else:
            single[name] = value
    if file is None:
        raise ApiError(400, "file: is missing, or has no file name", param="file")
    return {**single, **several}, file


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    told = request.headers.get("content-length", "")
    seen = int(told) if told.isdecimal() else 0
    if seen <= limit:
        seen = 0
        async for part in request.stream():
            seen += len(part)
            if seen > limit:
                break
            yield part
    if seen > limit:
        raise ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")
