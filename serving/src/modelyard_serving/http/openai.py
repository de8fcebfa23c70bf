"""OpenAI's endpoints for text generation: chat completions and completions."""

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.engines.protocol import EngineFailed
from modelyard_serving.http.body import json_answer, read_body
from modelyard_serving.http.chat_shape import CallReading, ChatShape
from modelyard_serving.http.errors import ApiError, as_api_error
from modelyard_serving.http.record import RequestRecord, record_of
from modelyard_serving.http.requests import ChatRequest, CompletionRequest
from modelyard_serving.http.responses import Usage
from modelyard_serving.http.shapes import AnswerShape, TextShape, WholeChoice
from modelyard_serving.http.stream import DONE, EventStream, as_event
from modelyard_serving.http.tools import ToolUse
from modelyard_serving.service import Service
from modelyard_serving.tasks.answer import TextAnswer, TextPiece, TextRequest
from modelyard_serving.tasks.text_generation import TextGeneration
from modelyard_serving.tasks.tool_calls import CallStyle


class TextEndpoints:
    """The endpoints of one service that generates text."""

    def __init__(self, service: Service, text: TextGeneration) -> None:
        self._service = service
        self._text = text
        self.routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
        ]

    async def chat(self, request: Request) -> Response:
        record = record_of(request, "chat.completions")
        body = await read_body(request, self._service.config.service, ChatRequest)
        record.user = body.user
        use = body.tool_use()
        told = [] if use is None or use.choice == "none" else [tool.plain() for tool in use.tools]
        prompt = await self._text.chat_prompt([message.plain() for message in body.messages], told)
        field = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
        answer = await self._answer(body, prompt, record, limit_field=field, prompt_field="messages")
        calls = _reading(use, self._text.call_style)
        shape = ChatShape(self._identity("chatcmpl"), body.n, body.logprobs, calls)
        return await self._respond(answer, record, body, shape)

    async def complete(self, request: Request) -> Response:
        record = record_of(request, "completions")
        body = await read_body(request, self._service.config.service, CompletionRequest)
        record.user = body.user
        if isinstance(body.prompt, str):
            prompt = await self._text.text_prompt(body.prompt)
        else:
            prompt = self._text.check_tokens(body.prompt, "prompt")
        answer = await self._answer(body, prompt, record, limit_field="max_tokens", prompt_field="prompt")
        shape = TextShape(self._identity("cmpl"), logprobs=body.logprobs is not None)
        return await self._respond(answer, record, body, shape)

    async def _answer(
        self, body: ChatRequest | CompletionRequest, prompt: tuple[int, ...], record: RequestRecord, *,
        limit_field: str, prompt_field: str,
    ) -> TextAnswer:  # fmt: skip
        record.prompt_tokens = len(prompt)
        text, config = self._text, self._service.config
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
        return json_answer(shape.whole(choices, _usage(record)))

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


def _reading(use: ToolUse | None, style: CallStyle) -> CallReading:
    """Where in the answer calls are: the form of a demanded one is known."""
    if use is None or use.choice == "none":
        return CallReading()
    return CallReading(style if use.choice == "auto" else CallStyle.WHOLE, use.only)


def _note(record: RequestRecord, piece: TextPiece) -> None:
    record.tokens(piece.tokens)
    if piece.finish is not None:
        record.ended(piece.finish)


def _usage(record: RequestRecord) -> Usage:
    prompt, made = record.prompt_tokens, record.completion_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=made, total_tokens=prompt + made)
