"""OpenAI's endpoints for text: chat completions, completions, models."""

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.engines.protocol import EngineFailed
from modelyard_serving.http.errors import ApiError, as_api_error, invalid_body
from modelyard_serving.http.record import RequestRecord
from modelyard_serving.http.requests import ChatRequest, CompletionRequest
from modelyard_serving.http.responses import ModelCard, ModelList, Usage
from modelyard_serving.http.shapes import AnswerShape, ChatShape, TextShape, WholeChoice
from modelyard_serving.http.stream import DONE, EventStream, as_event
from modelyard_serving.service import Service
from modelyard_serving.tasks.answer import TextAnswer, TextPiece, TextRequest

MAX_BODY_BYTES = 8 * 2**20
Body = TypeVar("Body", ChatRequest, CompletionRequest)


class OpenAIEndpoints:
    """The endpoints of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/models", self.list_models, methods=["GET"]),
            Route("/v1/models/{model:path}", self.get_model, methods=["GET"]),
        ]

    async def chat(self, request: Request) -> Response:
        record = _record(request, "chat.completions")
        body = await self._read(request, ChatRequest)
        record.user = body.user
        prompt = await self._service.text.chat_prompt([message.plain() for message in body.messages])
        field = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
        answer = await self._answer(body, prompt, record, limit_field=field, prompt_field="messages")
        return await self._respond(answer, record, body, ChatShape(self._identity("chatcmpl"), body.n, body.logprobs))

    async def complete(self, request: Request) -> Response:
        record = _record(request, "completions")
        body = await self._read(request, CompletionRequest)
        record.user = body.user
        text = self._service.text
        if isinstance(body.prompt, str):
            prompt = await text.text_prompt(body.prompt)
        else:
            prompt = text.check_tokens(body.prompt, "prompt")
        answer = await self._answer(body, prompt, record, limit_field="max_tokens", prompt_field="prompt")
        shape = TextShape(self._identity("cmpl"), logprobs=body.logprobs is not None)
        return await self._respond(answer, record, body, shape)

    async def list_models(self, request: Request) -> Response:
        _record(request, "models")
        return _json(ModelList(data=[self._card()]))

    async def get_model(self, request: Request) -> Response:
        _record(request, "models")
        self._check_model(request.path_params["model"])
        return _json(self._card())

    async def _read(self, request: Request, kind: type[Body]) -> Body:
        raw = bytearray()
        async for part in request.stream():
            raw += part
            if len(raw) > MAX_BODY_BYTES:
                raise ApiError(413, f"the body is larger than {MAX_BODY_BYTES} bytes", code="body_too_large")
        try:
            body = kind.model_validate_json(bytes(raw))
        except ValidationError as error:
            raise invalid_body(error) from error
        self._check_model(body.model)
        return body

    def _check_model(self, name: str) -> None:
        served = self._service.config.service
        if name != served:
            message = f"model: there is no {name!r} here; this service is {served!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    async def _answer(
        self, body: ChatRequest | CompletionRequest, prompt: tuple[int, ...], record: RequestRecord, *,
        limit_field: str, prompt_field: str,
    ) -> TextAnswer:  # fmt: skip
        record.prompt_tokens = len(prompt)
        text, config = self._service.text, self._service.config
        places = config.engine.max_running + config.engine.max_queued
        if body.n > places:
            raise ApiError(400, f"n: {body.n} is more than the {places} requests that a replica takes on", param="n")
        text.check_tokens(tuple(body.logit_bias), "logit_bias")
        text.check_tokens(body.stop_token_ids, "stop_token_ids")
        constraint = await text.constraint(body.form(), body.ending())
        return text.answer(TextRequest(
            prompt=prompt, max_tokens=getattr(body, limit_field), max_tokens_field=limit_field,
            prompt_field=prompt_field, sampling=body.sampling(), ending=body.ending(), stops=body.stop,
            constraint=constraint,
            choices=body.n, logprobs=body.wanted_logprobs(), timeout_s=config.request_timeout_s,
        ))  # fmt: skip

    async def _respond(
        self, answer: TextAnswer, record: RequestRecord, body: ChatRequest | CompletionRequest, shape: AnswerShape
    ) -> Response:
        if body.stream:
            return self._stream(answer, record, body, shape)
        choices = [WholeChoice() for _ in range(body.n)]
        try:
            async for piece in answer:
                _note(record, piece)
                choices[piece.choice].add(piece)
        finally:
            answer.cancel()
        return _json(shape.whole(choices, _usage(record)))

    def _stream(
        self, answer: TextAnswer, record: RequestRecord, body: ChatRequest | CompletionRequest, shape: AnswerShape
    ) -> Response:
        async def events() -> AsyncIterator[bytes]:
            try:
                for chunk in shape.opening():
                    yield as_event(chunk.model_dump_json())
                async for piece in answer:
                    _note(record, piece)
                    for chunk in shape.piece(piece):
                        yield as_event(chunk.model_dump_json())
                if body.stream_options.include_usage:
                    yield as_event(shape.usage(_usage(record)).model_dump_json())
            except (TimeoutError, EngineFailed) as error:  # the status is out: the stream itself must tell
                told = as_api_error(error, timeout_s=self._service.config.request_timeout_s)
                record.error = str(told)
                yield as_event(told.text())
            yield DONE

        return EventStream(events(), answer.cancel)

    def _identity(self, prefix: str) -> dict[str, Any]:
        return {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": self._service.config.service,
        }

    def _card(self) -> ModelCard:
        return ModelCard(id=self._service.config.service, created=self._service.loaded_at)


def _note(record: RequestRecord, piece: TextPiece) -> None:
    record.tokens(piece.tokens)
    if piece.finish is not None:
        record.ended(piece.finish)


def _usage(record: RequestRecord) -> Usage:
    prompt, made = record.prompt_tokens, record.completion_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=made, total_tokens=prompt + made)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _record(request: Request, endpoint: str) -> RequestRecord:
    record: RequestRecord = request.scope["modelyard.record"]
    record.endpoint = endpoint
    return record
