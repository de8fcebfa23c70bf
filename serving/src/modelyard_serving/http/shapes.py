"""How answers look in OpenAI's two kinds, whole and streamed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from modelyard_serving.engines.protocol import FinishReason
from modelyard_serving.http.logprobs import chat_logprobs, text_logprobs
from modelyard_serving.http.responses import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChunkChoice,
    TextChoice,
    TextCompletion,
    Usage,
)
from modelyard_serving.tasks.answer import ScoredToken, TextPiece


@dataclass
class WholeChoice:
    """A choice with all of its pieces."""

    text: str = ""
    finish: FinishReason = FinishReason.LENGTH
    scored: list[ScoredToken] = field(default_factory=list)

    def add(self, piece: TextPiece) -> None:
        """The choice's next piece."""
        self.text += piece.text
        self.scored += piece.scored
        self.finish = piece.finish or self.finish


class AnswerShape(Protocol):
    """One kind of answer."""

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> BaseModel:
        """The answer in one."""

    def opening(self) -> list[BaseModel]:
        """What comes before the first piece."""

    def piece(self, piece: TextPiece) -> list[BaseModel]:
        """The chunks of a piece."""

    def usage(self, usage: Usage) -> BaseModel:
        """The chunk after the last piece for those who asked for the usage."""


@dataclass(frozen=True)
class ChatShape:
    """Chat completions. Streams have for each choice its role, then text, then its end's reason in its own chunk."""

    identity: dict[str, Any]
    choices: int
    logprobs: bool

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> BaseModel:
        told = [
            ChatChoice(
                index=index, message=ChatMessage(content=choice.text), finish_reason=choice.finish,
                logprobs=chat_logprobs(choice.scored) if self.logprobs else None,
            )
            for index, choice in enumerate(choices)
        ]  # fmt: skip
        return ChatCompletion(**self.identity, choices=told, usage=usage)

    def opening(self) -> list[BaseModel]:
        return [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self.choices)]

    def piece(self, piece: TextPiece) -> list[BaseModel]:
        chunks: list[BaseModel] = []
        if piece.text or piece.scored:
            chunks.append(self._chunk(piece.choice, {"content": piece.text}, scored=piece.scored))
        if piece.finish is not None:
            chunks.append(self._chunk(piece.choice, {}, finish=piece.finish))
        return chunks

    def usage(self, usage: Usage) -> BaseModel:
        return ChatChunk(**self.identity, choices=[], usage=usage)

    def _chunk(
        self, index: int, delta: dict[str, str], *, finish: FinishReason | None = None,
        scored: Sequence[ScoredToken] = (),
    ) -> ChatChunk:  # fmt: skip
        logprobs = chat_logprobs(scored) if scored else None
        choice = ChunkChoice(index=index, delta=delta, finish_reason=finish, logprobs=logprobs)
        return ChatChunk(**self.identity, choices=[choice])


@dataclass(frozen=True)
class TextShape:
    """Completions. In streams each piece is a chunk, a choice's last one with the reason of its end."""

    identity: dict[str, Any]
    logprobs: bool

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> BaseModel:
        told = [
            TextChoice(
                index=index, text=choice.text, finish_reason=choice.finish,
                logprobs=text_logprobs(choice.scored) if self.logprobs else None,
            )
            for index, choice in enumerate(choices)
        ]  # fmt: skip
        return TextCompletion(**self.identity, choices=told, usage=usage)

    def opening(self) -> list[BaseModel]:
        return []

    def piece(self, piece: TextPiece) -> list[BaseModel]:
        logprobs = text_logprobs(piece.scored) if piece.scored else None
        choice = TextChoice(index=piece.choice, text=piece.text, finish_reason=piece.finish, logprobs=logprobs)
        return [TextCompletion(**self.identity, choices=[choice])]

    def usage(self, usage: Usage) -> BaseModel:
        return TextCompletion(**self.identity, choices=[], usage=usage)
