"""OpenAI's endpoint for embeddings."""

import base64
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.http.body import ModelRequest, json_answer, read_body
from modelyard_serving.http.departure import while_connected
from modelyard_serving.http.inputs import Inputs, ReadTokens, read_tokens
from modelyard_serving.http.record import record_of
from modelyard_serving.service import Service
from modelyard_serving.tasks.embeddings import Embeddings


class EmbeddingRequest(ModelRequest):
    """POST /v1/embeddings."""

    input: Inputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = Field(default=None, max_length=200, description="Written to the request log.")


class Embedding(BaseModel):
    """The vector of one input; in base64 it is float32, the least significant byte first."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """The answer."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: ReadTokens


class EmbeddingEndpoints:
    """The endpoints of one service that embeds texts."""

    def __init__(self, service: Service, task: Embeddings) -> None:
        self._service = service
        self._task = task
        self.routes = [Route("/v1/embeddings", self.embed, methods=["POST"])]

    async def embed(self, request: Request) -> Response:
        record = record_of(request, "embeddings")
        config = self._service.config
        body = await read_body(request, config.service, EmbeddingRequest)
        record.user = body.user
        embedded = await while_connected(request, self._task.embed(
            body.input.all, alone=body.input.alone, dimensions=body.dimensions, timeout_s=config.request_timeout_s
        ))  # fmt: skip
        record.prompt_tokens = embedded.tokens
        written = _as_base64 if body.encoding_format == "base64" else _as_floats
        data = [Embedding(index=index, embedding=written(vector)) for index, vector in enumerate(embedded.vectors)]
        return json_answer(EmbeddingList(data=data, model=config.service, usage=read_tokens(embedded.tokens)))


def _as_floats(vector: Any) -> list[float]:
    floats: list[float] = vector.tolist()
    return floats


def _as_base64(vector: Any) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
