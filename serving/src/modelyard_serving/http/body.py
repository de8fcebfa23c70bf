"""JSON bodies in and out, for every endpoint in OpenAI's manner."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import Response

from modelyard_serving.http.errors import ApiError, invalid_body

MAX_BODY_BYTES = 8 * 2**20


class StrictRequest(BaseModel):
    """A field that would have no effect is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """Clients write null for what they do not set."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class ModelRequest(StrictRequest):
    """A request that names the model which shall answer it."""

    model: str


Body = TypeVar("Body", bound=ModelRequest)


async def read_raw(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body; raises `ApiError` where it is larger than `limit` bytes, as soon as that is seen."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > limit:
            raise ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")
    return bytes(raw)


async def read_body(request: Request, served: str, kind: type[Body], *, limit: int = MAX_BODY_BYTES) -> Body:
    """A request of this kind to the model `served`; raises `ApiError` for any other."""
    raw = await read_raw(request, limit)
    try:
        body = kind.model_validate_json(raw)
    except ValidationError as error:
        raise invalid_body(error) from error
    check_model(body.model, served)
    return body


def check_model(name: str, served: str) -> None:
    """Raise `ApiError` where `name` is not the model that is served here."""
    if name != served:
        message = f"model: there is no {name!r} here; this service is {served!r}"
        raise ApiError(404, message, param="model", code="model_not_found")


def json_answer(answer: BaseModel, *, leave_out_null: bool = False) -> Response:
    """The answer as it goes out."""
    return Response(answer.model_dump_json(exclude_none=leave_out_null), media_type="application/json")
