"""The Open Inference Protocol, version 2, over HTTP, for any model with named arrays in and out.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and its binary
tensor data extension as Triton has it.
"""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelyard_serving.engines.protocol import EngineFailed
from modelyard_serving.http.body import check_model, read_raw
from modelyard_serving.http.departure import while_connected
from modelyard_serving.http.errors import ApiError
from modelyard_serving.http.infer_messages import HEADER, choose_outputs, parse, write
from modelyard_serving.http.record import record_of
from modelyard_serving.service import Service
from modelyard_serving.tasks.tensors import TensorInfo, TensorModel, check_inputs

PREFIX = "/v2"
MAX_INFER_BYTES = 32 * 2**20
THREADED_BYTES = 256 * 1024
"""Bodies above that are read beside the event loop, which they would hold up."""
VERSIONS = "/versions/"


class OpenInferenceEndpoints:
    """The endpoints of one service."""

    def __init__(self, service: Service, model: TensorModel) -> None:
        self._service = service
        self._model = model
        name = f"{PREFIX}/models/{{model:path}}"
        self.routes = [
            Route(PREFIX, self.server, methods=["GET"]),
            Route(f"{PREFIX}/health/live", self.live, methods=["GET"]),
            Route(f"{PREFIX}/health/ready", self.ready, methods=["GET"]),
            Route(f"{name}/ready", self.model_ready, methods=["GET"]),
            Route(f"{name}/infer", self.infer, methods=["POST"]),
            Route(name, self.metadata, methods=["GET"]),
        ]

    async def server(self, request: Request) -> Response:
        record_of(request, "v2.server")
        facts = {"name": "modelyard", "version": version("modelyard"), "extensions": ["binary_tensor_data"]}
        return JSONResponse(facts)

    async def live(self, request: Request) -> Response:
        record_of(request, "v2.live")
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        record_of(request, "v2.ready")
        self._check()
        return JSONResponse({"ready": True})

    async def model_ready(self, request: Request) -> Response:
        record_of(request, "v2.ready")
        self._check_name(request)
        self._check()
        return JSONResponse({"name": self._service.config.service, "ready": True})

    async def metadata(self, request: Request) -> Response:
        record_of(request, "v2.metadata")
        self._check_name(request)
        config = self._service.config
        return JSONResponse({
            "name": config.service, "versions": [config.revision], "platform": self._model.platform,
            "inputs": _told(self._model.inputs), "outputs": _told(self._model.outputs),
        })  # fmt: skip

    async def infer(self, request: Request) -> Response:
        record_of(request, "v2.infer")
        self._check_name(request)
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise ApiError(415, f"Content-Encoding {encoding[:40]!r} is not taken; send the body as it is")
        raw = await read_raw(request, MAX_INFER_BYTES)
        length = request.headers.get(HEADER)
        if len(raw) > THREADED_BYTES:
            asked, given = await asyncio.to_thread(parse, raw, length)
        else:
            asked, given = parse(raw, length)
        wanted = choose_outputs(asked, self._model.outputs)
        check_inputs(self._model.inputs, given)
        config = self._service.config
        own = asked.parameters.timeout
        timeout_s = config.request_timeout_s if own is None else min(own / 1e6, config.request_timeout_s)
        arrays = {name: tensor.array for name, tensor in given.items()}
        computed = await while_connected(request, self._model.infer(arrays, timeout_s=timeout_s))
        identity = {"model_name": config.service, "model_version": config.revision}
        identity |= {} if asked.id is None else {"id": asked.id}
        body, json_length = await asyncio.to_thread(write, identity, wanted, computed)
        if json_length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={HEADER: str(json_length)})

    def _check_name(self, request: Request) -> None:
        """Raise `ApiError` where the path names another model, or another version of it."""
        name, versions, revision = request.path_params["model"].partition(VERSIONS)
        check_model(name, self._service.config.service)
        if versions and revision != self._service.config.revision:
            raise ApiError(404, f"there is no version {revision!r} here; this is {self._service.config.revision!r}")

    def _check(self) -> None:
        try:
            self._service.loaded.model.check()
        except EngineFailed as error:
            raise ApiError(503, f"not ready: {error}") from error


def speaks_of(path: str) -> bool:
    """Whether a request to this path gets its errors in the protocol's shape."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def error_response(error: ApiError) -> Response:
    """An error in the protocol's shape."""
    return JSONResponse({"error": str(error)}, error.status, error.headers)


def _told(infos: Sequence[TensorInfo]) -> list[dict[str, Any]]:
    return [
        {"name": info.name, "datatype": info.datatype, "shape": [extent.size for extent in info.shape]}
        for info in infos
    ]
