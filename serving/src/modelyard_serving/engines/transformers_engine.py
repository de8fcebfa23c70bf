"""The first engine: any causal language model of transformers, one step for each running request in turn.

A request's tokens are computed alone, in the shapes that transformers' own `generate` uses, so greedy answers are the
same token for token whatever else runs. All requests advance and stream at the same pace. Throughput is that of a
single request; batching is for the engine that takes this one's place.
"""

import asyncio
import inspect
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import torch

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.protocol import (
    EngineFailed,
    EngineStats,
    FinishReason,
    GenerationRequest,
    QueueFull,
    TokenEvent,
)
from modelyard_serving.engines.sampling import Sampler

STUCK_AFTER_S = 120.0
"""A step that takes longer is not slow but stuck."""


class TransformersGeneration:
    """One request in the engine; its events cross from the engine's thread to the caller's event loop."""

    def __init__(
        self, request: GenerationRequest, ends: frozenset[int], device: torch.device, on_cancel: Callable[[], None]
    ) -> None:
        self.request = request
        self.ends = ends
        self.sampler = Sampler(request, ends=ends, device=device)
        self.cancelled = False
        self.cache: Any = None
        self.last_token = 0
        self.made = 0
        self._on_cancel = on_cancel
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[TokenEvent | EngineFailed] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[TokenEvent]:
        while True:
            event = await self._events.get()
            if isinstance(event, EngineFailed):
                raise event
            yield event
            if event.finish is not None:
                return

    def cancel(self) -> None:
        self.cancelled = True
        self._on_cancel()

    def emit(self, event: TokenEvent | EngineFailed) -> None:
        """Hand an event to the caller; called in the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the caller's loop is closed: nobody listens any more
            self.cancelled = True


class TransformersEngine:
    """Runs the model in one thread of its own."""

    def __init__(
        self,
        model: Any,
        *,
        context_length: int,
        end_tokens: frozenset[int],
        config: EngineConfig,
        stuck_after_s: float = STUCK_AFTER_S,
    ) -> None:
        self._model = model
        self._context_length = context_length
        self._end_tokens = end_tokens
        self._config = config
        self._stuck_after_s = stuck_after_s
        self._extra = _last_logits_only(model)
        self._waiting: deque[TransformersGeneration] = deque()
        self._running: list[TransformersGeneration] = []
        self._changed = threading.Condition()
        self._closing = False
        self._step_began: float | None = None
        self._thread = threading.Thread(target=self._work, name="modelyard-engine", daemon=True)
        self._thread.start()

    @property
    def context_length(self) -> int:
        return self._context_length

    def submit(self, request: GenerationRequest) -> TransformersGeneration:
        generation = TransformersGeneration(request, self._ends(request), self._model.device, self._drop_cancelled)
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise EngineFailed("the engine has stopped")
            ahead = _count(self._running) + _count(self._waiting)
            if request.urgent:
                self._running.append(generation)
            elif ahead >= self._config.max_running + self._config.max_queued:
                raise QueueFull
            else:
                self._waiting.append(generation)
            self._changed.notify()
        return generation

    def stats(self) -> EngineStats:
        with self._changed:
            return EngineStats(running=len(self._running), queued=len(self._waiting))

    def check(self) -> None:
        if not self._thread.is_alive():
            raise EngineFailed("the engine's thread is gone")
        began = self._step_began
        if began is not None and time.monotonic() - began > self._stuck_after_s:
            raise EngineFailed(f"the engine's step has not come back for {time.monotonic() - began:.0f} s")

    def resize(self, config: EngineConfig) -> None:
        with self._changed:
            self._config = config
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=self._stuck_after_s)

    def _ends(self, request: GenerationRequest) -> frozenset[int]:
        """The tokens that end this request's answer."""
        return request.ending.stop_tokens | (frozenset() if request.ending.ignore_eos else self._end_tokens)

    def _drop_cancelled(self) -> None:
        """Let cancelled requests leave the queue at once; running ones leave before their next step."""
        with self._changed:
            self._waiting = deque(other for other in self._waiting if not other.cancelled)

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                while batch := self._next_round():
                    for generation in batch:
                        self._advance(generation)
        finally:
            with self._changed:
                self._closing = True
                left = [*self._running, *self._waiting]
                self._running.clear()
                self._waiting.clear()
            for generation in left:
                generation.emit(EngineFailed("the engine has stopped"))

    def _next_round(self) -> list[TransformersGeneration]:
        """Wait for work and say which requests take a step now; empty when the engine closes."""
        with self._changed:
            while not self._closing:
                self._running = [generation for generation in self._running if not generation.cancelled]
                busy = _count(self._running)
                while self._waiting and busy < self._config.max_running:
                    self._running.append(self._waiting.popleft())
                    busy += 1
                if self._running:
                    return list(self._running)
                self._changed.wait()
            return []

    def _advance(self, generation: TransformersGeneration) -> None:
        """One step of one request; its failure is its own."""
        if generation.cancelled:
            return
        self._step_began = time.monotonic()
        try:
            event: TokenEvent | EngineFailed = self._step(generation)
        except Exception as error:  # noqa: BLE001 - whatever the model raises ends this request alone
            event = EngineFailed(f"{type(error).__name__}: {error}")
        finally:
            self._step_began = None
        if isinstance(event, EngineFailed) or event.finish is not None:
            with self._changed:
                self._running.remove(generation)
            generation.cache = None
        generation.emit(event)

    def _step(self, generation: TransformersGeneration) -> TokenEvent:
        tokens = generation.request.prompt if generation.cache is None else (generation.last_token,)
        output = self._model(
            input_ids=torch.tensor([tokens], device=self._model.device),
            past_key_values=generation.cache,
            use_cache=True,
            **self._extra,
        )
        token = generation.sampler.choose(output.logits[0, -1].float())
        generation.cache = output.past_key_values
        generation.last_token = token
        generation.made += 1
        if token in generation.ends:
            return TokenEvent(token, FinishReason.STOP)
        if generation.made >= generation.request.max_tokens:
            return TokenEvent(token, FinishReason.LENGTH)
        return TokenEvent(token)


def _count(generations: Iterable[TransformersGeneration]) -> int:
    """How many take up one of the places that the limits speak of."""
    return sum(not (generation.request.urgent or generation.cancelled) for generation in generations)


def _last_logits_only(model: Any) -> dict[str, int]:
    """As `generate` does: do not compute the vocabulary's scores for every position of the prompt."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
