"""OpenAI's endpoints for text: chat completions, completions, models."""

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.engines.protocol import EngineFailed, FinishReason
from modelyard_serving.http.chunks import ChatStream, StreamShape, TextStream
from modelyard_serving.http.errors import ApiError, as_api_error, invalid_body
from modelyard_serving.http.record import RequestRecord
from modelyard_serving.http.requests import ChatRequest, CompletionRequest
from modelyard_serving.http.responses import (
    ChatChoice,
    ChatCompletion,
    ChatMessage,
    ModelCard,
    ModelList,
    TextChoice,
    TextCompletion,
    Usage,
)
from modelyard_serving.http.stream import DONE, EventStream, as_event
from modelyard_serving.service import Service
from modelyard_serving.tasks.text_generation import TextAnswer, TextRequest

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
        answer = self._answer(body, prompt, record, limit_field=field, prompt_field="messages")
        identity = self._identity("chatcmpl")
        if body.stream:
            return self._stream(answer, record, body, ChatStream(identity))
        text, finish = await _collect(answer, record)
        choice = ChatChoice(message=ChatMessage(content=text), finish_reason=finish)
        return _json(ChatCompletion(**identity, choices=[choice], usage=_usage(record)))

    async def complete(self, request: Request) -> Response:
        record = _record(request, "completions")
        body = await self._read(request, CompletionRequest)
        record.user = body.user
        text = self._service.text
        if isinstance(body.prompt, str):
            prompt = await text.text_prompt(body.prompt)
        else:
            prompt = text.check_tokens(body.prompt, "prompt")
        answer = self._answer(body, prompt, record, limit_field="max_tokens", prompt_field="prompt")
        identity = self._identity("cmpl")
        if body.stream:
            return self._stream(answer, record, body, TextStream(identity))
        whole, finish = await _collect(answer, record)
        choice = TextChoice(text=whole, finish_reason=finish)
        return _json(TextCompletion(**identity, choices=[choice], usage=_usage(record)))

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

    def _answer(
        self, body: ChatRequest | CompletionRequest, prompt: tuple[int, ...], record: RequestRecord, *,
        limit_field: str, prompt_field: str,
    ) -> TextAnswer:  # fmt: skip
        record.prompt_tokens = len(prompt)
        text = self._service.text
        text.check_tokens(tuple(body.logit_bias), "logit_bias")
        text.check_tokens(body.stop_token_ids, "stop_token_ids")
        return text.answer(TextRequest(
            prompt=prompt, max_tokens=getattr(body, limit_field), max_tokens_field=limit_field,
            prompt_field=prompt_field, sampling=body.sampling(), ending=body.ending(), stops=body.stop,
            timeout_s=self._service.config.request_timeout_s,
        ))  # fmt: skip

    def _stream(
        self, answer: TextAnswer, record: RequestRecord, body: ChatRequest | CompletionRequest, shape: StreamShape
    ) -> Response:
        async def events() -> AsyncIterator[bytes]:
            try:
                for chunk in shape.opening():
                    yield as_event(chunk.model_dump_json())
                async for piece in answer:
                    record.tokens(piece.tokens)
                    record.finish = piece.finish
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


async def _collect(answer: TextAnswer, record: RequestRecord) -> tuple[str, FinishReason]:
    """The whole answer; the slot is given back however it ends."""
    text, finish = "", FinishReason.LENGTH
    try:
        async for piece in answer:
            text += piece.text
            finish = piece.finish or finish
            record.tokens(piece.tokens)
    finally:
        answer.cancel()
    record.finish = finish
    return text, finish


def _usage(record: RequestRecord) -> Usage:
    prompt, made = record.prompt_tokens, record.completion_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=made, total_tokens=prompt + made)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _record(request: Request, endpoint: str) -> RequestRecord:
    record: RequestRecord = request.scope["modelyard.record"]
    record.endpoint = endpoint
    return record
