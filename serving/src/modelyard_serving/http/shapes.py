"""How answers look in OpenAI's kinds, whole and streamed; that of completions. Chats: chat_shape.py."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from modelyard_serving.engines.protocol import FinishReason
from modelyard_serving.http.logprobs import text_logprobs
from modelyard_serving.http.responses import TextChoice, TextCompletion, Usage
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
