"""How the pieces of an answer look in OpenAI's two kinds of stream."""

from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from modelyard_serving.http.responses import ChatChunk, ChunkChoice, TextChoice, TextCompletion, Usage
from modelyard_serving.tasks.text_generation import TextPiece


class StreamShape(Protocol):
    """One kind of stream."""

    def opening(self) -> list[BaseModel]:
        """What comes before the first piece."""

    def piece(self, piece: TextPiece) -> list[BaseModel]:
        """The chunks of a piece."""

    def usage(self, usage: Usage) -> BaseModel:
        """The chunk after the last piece for those who asked for the usage."""


@dataclass(frozen=True)
class ChatStream:
    """Chat completions: role first, then text, then the reason of the end in a chunk of its own."""

    identity: dict[str, Any]

    def opening(self) -> list[BaseModel]:
        return [self._chunk({"role": "assistant", "content": ""})]

    def piece(self, piece: TextPiece) -> list[BaseModel]:
        chunks: list[BaseModel] = [self._chunk({"content": piece.text})] if piece.text else []
        if piece.finish is not None:
            choice = ChunkChoice(delta={}, finish_reason=piece.finish)
            chunks.append(ChatChunk(**self.identity, choices=[choice]))
        return chunks

    def usage(self, usage: Usage) -> BaseModel:
        return ChatChunk(**self.identity, choices=[], usage=usage)

    def _chunk(self, delta: dict[str, str]) -> ChatChunk:
        return ChatChunk(**self.identity, choices=[ChunkChoice(delta=delta, finish_reason=None)])


@dataclass(frozen=True)
class TextStream:
    """Completions: each piece is a chunk, the last one with the reason of the end."""

    identity: dict[str, Any]

    def opening(self) -> list[BaseModel]:
        return []

    def piece(self, piece: TextPiece) -> list[BaseModel]:
        return [TextCompletion(**self.identity, choices=[TextChoice(text=piece.text, finish_reason=piece.finish)])]

    def usage(self, usage: Usage) -> BaseModel:
        return TextCompletion(**self.identity, choices=[], usage=usage)
