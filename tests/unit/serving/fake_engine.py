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
    Logprobs,
    TokenEvent,
)


@dataclass
class FakeGeneration:
    """Gives `tokens` for each choice, or its `other` tokens, then ends, fails, or never comes back."""

    tokens: list[int]
    ending: FinishReason | EngineFailed | None
    request: GenerationRequest
    other: dict[int, list[int]] = field(default_factory=dict)
    cancelled: list[int | None] = field(default_factory=list)

    async def __aiter__(self) -> AsyncIterator[TokenEvent]:
        for place in range(len(self.tokens) - 1):
            for choice in self._going():
                yield self._event(place, choice)
        if self.ending is None:
            await asyncio.Event().wait()
        if isinstance(self.ending, EngineFailed):
            raise self.ending
        for choice in self._going():
            yield self._event(-1, choice, self.ending)

    def cancel(self, choice: int | None = None) -> None:
        self.cancelled.append(choice)

    def _going(self) -> list[int]:
        return [choice for choice in range(self.request.choices) if choice not in self.cancelled]

    def _event(self, place: int, choice: int, finish: FinishReason | None = None) -> TokenEvent:
        probabilities = None if self.request.logprobs is None else Logprobs(-1.0, ((ord("?"), -0.5),))
        return TokenEvent(self.other.get(choice, self.tokens)[place], finish, choice, probabilities)


@dataclass
class FakeEngine:
    """Takes every request and remembers it."""

    tokens: list[int] = field(default_factory=list)
    ending: FinishReason | EngineFailed | None = FinishReason.LENGTH
    refusal: Exception | None = None
    name: str = "fake"
    context_length: int = 20
    end_tokens: frozenset[int] = frozenset({0})
    requests: list[GenerationRequest] = field(default_factory=list)
    generations: list[FakeGeneration] = field(default_factory=list)
    closed: bool = False

    def submit(self, request: GenerationRequest) -> FakeGeneration:
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(request)
        self.generations.append(FakeGeneration(list(self.tokens), self.ending, request))
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
