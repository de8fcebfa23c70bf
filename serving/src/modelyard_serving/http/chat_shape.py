"""How chat completions look, whole and streamed, with the calls of tools."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from modelyard_serving.engines.protocol import FinishReason
from modelyard_serving.http.logprobs import chat_logprobs
from modelyard_serving.http.responses import (
    CalledFunction,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatFinish,
    ChatMessage,
    ChunkChoice,
    FunctionCall,
    Usage,
)
from modelyard_serving.http.shapes import WholeChoice
from modelyard_serving.tasks.answer import ScoredToken, TextPiece
from modelyard_serving.tasks.tool_calls import CallReader, CallStyle, ToolCall


@dataclass(frozen=True)
class CallReading:
    """Where in the text calls are to be found."""

    style: CallStyle = CallStyle.NOWHERE
    only: str | None = None

    def reader(self) -> CallReader:
        """For one choice."""
        return CallReader(self.style, only=self.only)


@dataclass
class _StreamedChoice:
    """How far a choice's stream is."""

    reader: CallReader
    calls: int = 0


@dataclass(frozen=True)
class ChatShape:
    """Chat completions.

    Streams have for each choice its role, then text and calls, then its end's reason in its own chunk. A call comes in
    one chunk, when it is whole.
    """

    identity: dict[str, Any]
    choices: int
    logprobs: bool
    calls: CallReading = CallReading()
    _streamed: dict[int, _StreamedChoice] = field(default_factory=dict)

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> BaseModel:
        told = [self._choice(index, choice) for index, choice in enumerate(choices)]
        return ChatCompletion(**self.identity, choices=told, usage=usage)

    def opening(self) -> list[BaseModel]:
        return [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self.choices)]

    def piece(self, piece: TextPiece) -> list[BaseModel]:
        choice = self._streamed.setdefault(piece.choice, _StreamedChoice(self.calls.reader()))
        part = choice.reader.push(piece.text)
        if piece.finish is not None:
            part += choice.reader.finish()
        chunks: list[BaseModel] = []
        if part.text or piece.scored:
            chunks.append(self._chunk(piece.choice, {"content": part.text}, scored=piece.scored))
        for call in part.calls:
            chunks.append(
                self._chunk(piece.choice, {"tool_calls": [{"index": choice.calls, **_told(call).model_dump()}]})
            )
            choice.calls += 1
        if piece.finish is not None:
            chunks.append(self._chunk(piece.choice, {}, finish=_finish(piece.finish, choice.calls)))
        return chunks

    def usage(self, usage: Usage) -> BaseModel:
        return ChatChunk(**self.identity, choices=[], usage=usage)

    def _choice(self, index: int, choice: WholeChoice) -> ChatChoice:
        reader = self.calls.reader()
        part = reader.push(choice.text) + reader.finish()
        message = ChatMessage(content=part.text)
        if part.calls:
            message = ChatMessage(content=part.text.strip() or None, tool_calls=[_told(call) for call in part.calls])
        return ChatChoice(
            index=index, message=message, finish_reason=_finish(choice.finish, len(part.calls)),
            logprobs=chat_logprobs(choice.scored) if self.logprobs else None,
        )  # fmt: skip

    def _chunk(
        self, index: int, delta: dict[str, Any], *, finish: ChatFinish | None = None,
        scored: Sequence[ScoredToken] = (),
    ) -> ChatChunk:  # fmt: skip
        logprobs = chat_logprobs(scored) if scored else None
        choice = ChunkChoice(index=index, delta=delta, finish_reason=finish, logprobs=logprobs)
        return ChatChunk(**self.identity, choices=[choice])


def _finish(finish: FinishReason, calls: int) -> ChatFinish:
    return "tool_calls" if calls and finish is FinishReason.STOP else finish


def _told(call: ToolCall) -> FunctionCall:
    return FunctionCall(
        id=f"call_{uuid.uuid4().hex[:24]}", function=CalledFunction(name=call.name, arguments=call.arguments)
    )
