"""Image classification, at the path and in the shape of text classification.

A picture comes as the body itself, as curl and Hugging Face's inference API send it, or some come as base64 or data:
URLs in JSON, as OpenAI's API has pictures. Nothing is fetched: a server that opens URLs for strangers reaches what they
cannot.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainValidator, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.http.body import ModelRequest, StrictRequest, check_model, read_body, read_raw
from modelyard_serving.http.classification import classified
from modelyard_serving.http.departure import while_connected
from modelyard_serving.http.errors import ApiError, invalid_body
from modelyard_serving.http.record import record_of
from modelyard_serving.models.picture_bounds import MAX_PICTURE_BYTES
from modelyard_serving.service import Service
from modelyard_serving.tasks.image_classification import GivenPicture, ImageClassification

MAX_PICTURES = 32
MAX_JSON_BYTES = 16 * 2**20
"""Of a request with pictures in base64: one of the largest, or several smaller ones."""

DEFAULT_TOP_K = 5
"""As in transformers' pipeline."""

FILE_TYPES = ("image/", "application/octet-stream")
JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "")
"""The second one is what curl says of `-d`."""


class GivenPictures(BaseModel):
    """The field `input`."""

    all: tuple[GivenPicture, ...]


def _read_pictures(value: Any) -> GivenPictures:
    alone = isinstance(value, str)
    texts = [value] if alone else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("must be a picture in base64 or as a data: URL, or a list of them")
    if not 1 <= len(texts) <= MAX_PICTURES:
        raise ValueError(f"has {len(texts)} pictures: from 1 to {MAX_PICTURES} go in one request")
    names = ["input"] if alone else [f"input.{place}" for place in range(len(texts))]
    url = next((name for name, text in zip(names, texts, strict=True) if "://" in text[:16]), None)
    if url is not None:
        raise ValueError(f"{url} is a URL, and this server fetches none: send the picture itself, in base64")
    return GivenPictures(all=tuple(map(GivenPicture, texts, names)))


class ImageRequest(ModelRequest):
    """POST /v1/classify with JSON."""

    input: Annotated[GivenPictures, PlainValidator(_read_pictures)]
    top_k: int = Field(default=DEFAULT_TOP_K, ge=1, description="Labels of each picture.")
    user: str | None = Field(default=None, max_length=200, description="Written to the request log.")


class FileParameters(StrictRequest):
    """The query of POST /v1/classify with a picture as the body."""

    model: str | None = None
    top_k: int = Field(default=DEFAULT_TOP_K, ge=1)
    user: str | None = Field(default=None, max_length=200)


class ImageClassificationEndpoints:
    """The endpoints of one service that classifies pictures."""

    def __init__(self, service: Service, task: ImageClassification) -> None:
        self._service = service
        self._task = task
        self.routes = [Route("/v1/classify", self.classify, methods=["POST"])]

    async def classify(self, request: Request) -> Response:
        record = record_of(request, "classify")
        config = self._service.config
        asked = await self._read(request)
        record.user = asked.user
        found = await while_connected(request, self._task.classify(
            asked.input.all, top_k=asked.top_k, timeout_s=config.request_timeout_s
        ))  # fmt: skip
        return classified(config.service, found)

    async def _read(self, request: Request) -> ImageRequest:
        served = self._service.config.service
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in JSON_TYPES:
            return await read_body(request, served, ImageRequest, limit=MAX_JSON_BYTES)
        if not kind.startswith(FILE_TYPES):
            message = f"the Content-Type is {kind!r}; send a picture as the body (image/jpeg ...) or JSON"
            raise ApiError(415, message, code="unsupported_media_type")
        try:
            parameters = FileParameters.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise invalid_body(error) from error
        check_model(parameters.model or served, served)
        picture = GivenPicture(await read_raw(request, MAX_PICTURE_BYTES), "body")
        return ImageRequest.model_construct(
            model=served, input=GivenPictures(all=(picture,)), top_k=parameters.top_k, user=parameters.user
        )
