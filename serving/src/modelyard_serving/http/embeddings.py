"""OpenAI's endpoint for embeddings."""

import base64
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.http.body import ModelRequest, json_answer, read_body
from modelyard_serving.http.departure import while_connected
from modelyard_serving.http.record import record_of
from modelyard_serving.service import Service
from modelyard_serving.tasks.embeddings import Embeddings
from modelyard_serving.tasks.text_inputs import TextInput

MAX_INPUTS = 2048
"""As at OpenAI."""


class Inputs(BaseModel):
    """One input, `alone`, or a list of them."""

    all: tuple[TextInput, ...]
    alone: bool


def _read_inputs(value: Any) -> Inputs:
    if isinstance(value, str) or _are_tokens(value):
        return Inputs(all=(value,), alone=True)
    texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
    if not texts and not (isinstance(value, list) and all(text == [] or _are_tokens(text) for text in value)):
        raise ValueError("must be a text, a list of texts, a list of tokens, or a list of such lists")
    if not 1 <= len(value) <= MAX_INPUTS:
        raise ValueError(f"has {len(value)} inputs: from 1 to {MAX_INPUTS} go in one request")
    return Inputs(all=tuple(value), alone=False)


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


class EmbeddingRequest(ModelRequest):
    """POST /v1/embeddings."""

    input: Annotated[Inputs, PlainValidator(_read_inputs)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = Field(default=None, max_length=200, description="Written to the request log.")


class ReadTokens(BaseModel):
    """Usage of a request that makes no tokens."""

    prompt_tokens: int
    total_tokens: int


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
        usage = ReadTokens(prompt_tokens=embedded.tokens, total_tokens=embedded.tokens)
        return json_answer(EmbeddingList(data=data, model=config.service, usage=usage))


def _as_floats(vector: Any) -> list[float]:
    floats: list[float] = vector.tolist()
    return floats


def _as_base64(vector: Any) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
