"""An engine that answers what the test says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.protocol import (
    EngineFailed,
    EngineStats,
    FinishReason,
    GenerationRequest,
    TokenEvent,
)


@dataclass
class FakeGeneration:
    """Gives `tokens`, then ends, fails, or never comes back."""

    tokens: list[int]
    ending: FinishReason | EngineFailed | None
    cancelled: int = 0

    async def __aiter__(self) -> AsyncIterator[TokenEvent]:
        for token in self.tokens[:-1]:
            yield TokenEvent(token)
        if self.ending is None:
            await asyncio.Event().wait()
        if isinstance(self.ending, EngineFailed):
            raise self.ending
        yield TokenEvent(self.tokens[-1], self.ending)

    def cancel(self) -> None:
        self.cancelled += 1


@dataclass
class FakeEngine:
    """Takes every request and remembers it."""

    tokens: list[int] = field(default_factory=list)
    ending: FinishReason | EngineFailed | None = FinishReason.LENGTH
    refusal: Exception | None = None
    context_length: int = 20
    requests: list[GenerationRequest] = field(default_factory=list)
    generations: list[FakeGeneration] = field(default_factory=list)
    closed: bool = False

    def submit(self, request: GenerationRequest) -> FakeGeneration:
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(request)
        self.generations.append(FakeGeneration(list(self.tokens), self.ending))
        return self.generations[-1]

    def stats(self) -> EngineStats:
        return EngineStats(running=1, queued=2)

    def check(self) -> None:
        if isinstance(self.ending, EngineFailed):
            raise self.ending

    def resize(self, config: EngineConfig) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True
