"""The slower engine: any causal language model of transformers, one step for each running choice in turn.

A choice's tokens are computed alone, in the shapes that transformers' own `generate` uses, so greedy answers are the
same token for token whatever else runs. All choices advance and stream at the same pace. Throughput is that of a
single choice; models that the batching engine knows get that one.
"""

import copy
import inspect
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.generation import Choice, EngineGeneration
from modelyard_serving.engines.logprobs import logprobs
from modelyard_serving.engines.protocol import (
    EngineFailed,
    EngineStats,
    FinishReason,
    GenerationRequest,
    QueueFull,
    TokenEvent,
)

STUCK_AFTER_S = 120.0
"""A step that takes longer is not slow but stuck."""
MOST_RUNNING = 8
"""More at once would not be faster, and each has keys and values in memory that nothing bounds."""


class TransformersEngine:
    """Runs the model in one thread of its own."""

    name = "transformers"

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
        self._waiting: deque[Choice] = deque()
        self._running: list[Choice] = []
        self._changed = threading.Condition()
        self._closing = False
        self._step_began: float | None = None
        self._thread = threading.Thread(target=self._work, name="modelyard-engine", daemon=True)
        self._thread.start()

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def end_tokens(self) -> frozenset[int]:
        return self._end_tokens

    def submit(self, request: GenerationRequest) -> EngineGeneration:
        generation = EngineGeneration(request, self._ends(request), self._model.device, self._drop_cancelled)
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise EngineFailed("the engine has stopped")
            ahead = _count(self._running) + _count(self._waiting)
            if request.urgent:
                self._running.extend(generation.choices)
            elif ahead + request.choices > self._config.max_running + self._config.max_queued:
                raise QueueFull
            else:
                self._waiting.extend(generation.choices)
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
        """Let cancelled choices leave the queue at once; running ones leave before their next step."""
        with self._changed:
            self._waiting = deque(other for other in self._waiting if not other.cancelled)

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                while batch := self._next_round():
                    for choice in batch:
                        self._advance(choice)
        finally:
            with self._changed:
                self._closing = True
                left = {choice.generation for choice in (*self._running, *self._waiting)}
                self._running.clear()
                self._waiting.clear()
            EngineGeneration.emit((generation, EngineFailed("the engine has stopped")) for generation in left)

    def _next_round(self) -> list[Choice]:
        """Wait for work and say which choices take a step now; empty when the engine closes."""
        with self._changed:
            while not self._closing:
                for choice in self._running:
                    if choice.cancelled:
                        choice.cache = None  # the request's other choices may go on for long
                self._running = [choice for choice in self._running if not choice.cancelled]
                busy = _count(self._running)
                while self._waiting and busy < min(self._config.max_running, MOST_RUNNING):
                    self._running.append(self._waiting.popleft())
                    busy += 1
                if self._running:
                    return list(self._running)
                self._changed.wait()
            return []

    def _advance(self, choice: Choice) -> None:
        """One step of one choice; its failure is its request's own."""
        if choice.cancelled:
            return
        self._step_began = time.monotonic()
        try:
            event: TokenEvent | EngineFailed = self._step(choice)
        except Exception as error:  # noqa: BLE001 - whatever the model raises ends this request alone
            event = EngineFailed(f"{type(error).__name__}: {error}")
        finally:
            self._step_began = None
        if isinstance(event, EngineFailed) or event.finish is not None:
            with self._changed:
                self._running.remove(choice)
            choice.cache = None
        EngineGeneration.emit([(choice.generation, event)])

    def _step(self, choice: Choice) -> TokenEvent:
        request, ends = choice.generation.request, choice.generation.ends
        if choice.made == 0:
            logits = self._begin(choice)
        else:
            logits, choice.cache = self._forward((choice.last_token,), choice.cache)
        token = choice.sampler.choose(logits)
        choice.last_token = token
        choice.made += 1
        finish = None
        if token in ends:
            finish = FinishReason.STOP
        elif choice.made >= request.max_tokens:
            finish = FinishReason.LENGTH
        probabilities = None if request.logprobs is None else logprobs(logits, token, request.logprobs)
        return TokenEvent(token, finish, choice.index, probabilities)

    def _begin(self, choice: Choice) -> torch.Tensor:
        """The logits after the prompt, which is computed once for all choices; each goes on from a copy."""
        generation = choice.generation
        if generation.begun is None:
            generation.begun = self._forward(generation.request.prompt, None)
        logits: torch.Tensor
        logits, cache = generation.begun
        if any(other.made == 0 and not other.cancelled for other in generation.choices if other is not choice):
            cache = copy.deepcopy(cache)
        else:
            generation.begun = None
        choice.cache = cache
        return logits

    def _forward(self, tokens: tuple[int, ...], cache: Any) -> tuple[torch.Tensor, Any]:
        """The last token's row of float32 logits, and the cache that knows all tokens."""
        output = self._model(
            input_ids=torch.tensor([tokens], device=self._model.device),
            past_key_values=cache,
            use_cache=True,
            **self._extra,
        )
        return output.logits[0, -1].float(), output.past_key_values


def _count(choices: Iterable[Choice]) -> int:
    """How many take up one of the places that the limits speak of."""
    return sum(not (choice.generation.request.urgent or choice.cancelled) for choice in choices)


def _last_logits_only(model: Any) -> dict[str, int]:
    """As `generate` does: do not compute the vocabulary's scores for every position of the prompt."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
