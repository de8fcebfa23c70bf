"""The ASGI application of one service."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from modelyard_serving.engines.protocol import EngineFailed, QueueFull
from modelyard_serving.http.departure import ClientLeft
from modelyard_serving.http.errors import ApiError, as_api_error, from_starlette
from modelyard_serving.http.models import ModelEndpoints
from modelyard_serving.http.open_inference import error_response, speaks_of
from modelyard_serving.http.platform import PlatformEndpoints
from modelyard_serving.http.record import Recording
from modelyard_serving.service import Service
from modelyard_serving.tasks.invalid import InvalidInput

EXPECTED = (ApiError, InvalidInput, QueueFull, TimeoutError, EngineFailed, ClientLeft, HTTPException)


def build_http_app(service: Service) -> ASGIApp:
    """All endpoints, with errors in OpenAI's shape or v2's, and a record of every request."""

    async def failed(request: Request, error: Exception) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if isinstance(error, HTTPException):
            told = from_starlette(error, request.method, path)
        else:
            told = as_api_error(error, timeout_s=service.config.request_timeout_s)
        expected = isinstance(error, EXPECTED)
        request.scope["modelyard.record"].error = str(told) if expected else f"{type(error).__name__}: {error}"
        return error_response(told) if speaks_of(path) else told.response()

    app = Starlette(
        routes=[
            *service.loaded.endpoints(service),
            *ModelEndpoints(service).routes,
            *PlatformEndpoints(service).routes,
        ],
        exception_handlers=dict.fromkeys((*EXPECTED, Exception), failed),
    )
    app.router.redirect_slashes = False
    return Recording(app, service.journal, service.metrics)
