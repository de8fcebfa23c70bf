"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

import json
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from modelyard_serving.engines.protocol import EngineFailed, QueueFull
from modelyard_serving.http.departure import ClientLeft
from modelyard_serving.tasks.invalid import InvalidInput

SHOWN = 3
RETRY_AFTER_S = 1


class ApiError(Exception):
    """What the client is told instead of an answer."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.headers = headers
        kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self) -> Response:
        return JSONResponse(self.body, self.status, self.headers)

    def text(self) -> str:
        """The body as it goes into a stream whose status is out already."""
        return json.dumps(self.body)


def invalid_body(error: ValidationError) -> ApiError:
    """All that is wrong with a request's body, field by field."""
    details = error.errors(include_url=False, include_context=False)
    if details[0]["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {details[0]['msg']}", code="invalid_json")
    lines = [f"{_field(detail)}: {_complaint(detail)}" for detail in details[:SHOWN]]
    more = f" (and {len(details) - SHOWN} more)" if len(details) > SHOWN else ""
    return ApiError(400, "; ".join(lines) + more, param=_field(details[0]))


def _field(detail: Any) -> str:
    return ".".join(str(part) for part in detail["loc"] if part != "[key]") or "body"


def _complaint(detail: Any) -> str:
    if detail["type"] == "extra_forbidden":
        return "this server does not support the field; leave it out"
    return str(detail["msg"]).removeprefix("Value error, ")


def as_api_error(error: Exception, *, timeout_s: float) -> ApiError:
    """The answer for what can go wrong between a valid request and its last token."""
    match error:
        case ApiError():
            return error
        case InvalidInput():
            return ApiError(400, f"{error.field}: {error}", param=error.field, code=error.code)
        case QueueFull():
            return ApiError(
                429, "the replica's queue is full; try again", code="queue_full",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )  # fmt: skip
        case TimeoutError():
            return ApiError(
                504, f"the request took longer than the service's requestTimeout of {timeout_s:g} s", code="timeout"
            )
        case ClientLeft():  # read by nobody; the request's record has it
            return ApiError(499, "the client left before the answer", code="client_left")
        case EngineFailed():
            return ApiError(500, f"the engine failed: {error}", code="engine_failed")
        case _:
            return ApiError(500, "internal error; the replica's log has it", code="internal")


def from_starlette(error: HTTPException, method: str, path: str) -> ApiError:
    """Unknown paths and methods."""
    told = {404: f"there is no {path}", 405: f"{path} does not take {method}"}.get(error.status_code, error.detail)
    return ApiError(error.status_code, told, headers=dict(error.headers or {}))
