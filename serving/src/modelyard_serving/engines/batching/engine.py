"""The engine: one thread that plans a step, computes it for all that runs, and chooses the next tokens.

Requests join and leave between steps. Why it is built like this: docs/design/engine.md.
"""

import threading
import time
from collections.abc import Iterable

import torch

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.batching.decoder import Decoder
from modelyard_serving.engines.batching.kv_memory import KVMemory
from modelyard_serving.engines.batching.scheduler import Chunk, Plan, Scheduler
from modelyard_serving.engines.batching.sequence import Sequence
from modelyard_serving.engines.generation import Choice, EngineGeneration, Event
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
STEP_TOKENS = {"cpu": 256}
"""Tokens of a step, by device: a CPU takes about a tenth of a second for so many of a small model's, and nobody who
is being answered waits for longer because of others' prompts."""
STEP_TOKENS_OTHERWISE = 2048


class ChoiceSequence(Sequence):
    """A choice as the scheduler sees it."""

    def __init__(self, choice: Choice) -> None:
        request = choice.generation.request
        super().__init__(request.prompt, group=choice.generation, urgent=request.urgent)
        self.choice = choice

    @property
    def cancelled(self) -> bool:
        return self.choice.cancelled


class BatchingEngine:
    """Works on many generations at once with one forward pass a step."""

    name = "batching"

    def __init__(  # noqa: PLR0913 - what it runs, what with, and two limits that tests set
        self,
        decoder: Decoder,
        memory: KVMemory,
        *,
        context_length: int,
        end_tokens: frozenset[int],
        config: EngineConfig,
        stuck_after_s: float = STUCK_AFTER_S,
        step_tokens: int | None = None,
    ) -> None:
        self._decoder = decoder
        self._memory = memory
        # One block more than a whole context is for urgent requests beside it.
        self._context_length = min(context_length, (memory.blocks - 1) * memory.block_size)
        self._end_tokens = end_tokens
        self._config = config
        self._stuck_after_s = stuck_after_s
        self._device = memory.shape.device
        self._scheduler: Scheduler[ChoiceSequence] = Scheduler(
            memory.blocks,
            memory.block_size,
            step_tokens or STEP_TOKENS.get(self._device.type, STEP_TOKENS_OTHERWISE),
        )
        self._changed = threading.Condition()
        self._closing = False
        self._steps = self._rows = 0
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
        ends = request.ending.stop_tokens | (frozenset() if request.ending.ignore_eos else self._end_tokens)
        generation = EngineGeneration(request, ends, self._device, self._drop_cancelled)
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise EngineFailed("the engine has stopped")
            ahead = _places(self._scheduler.running) + _places(self._scheduler.waiting)
            if not request.urgent and ahead + request.choices > self._config.max_running + self._config.max_queued:
                raise QueueFull
            self._scheduler.add(ChoiceSequence(choice) for choice in generation.choices)
            self._changed.notify()
        return generation

    def stats(self) -> EngineStats:
        with self._changed:
            use = self._scheduler.prefix_use
            return EngineStats(
                running=len(self._scheduler.running), queued=len(self._scheduler.waiting), batches=self._steps,
                batch_items=self._rows, prompt_tokens=use.asked, known_tokens=use.found,
            )  # fmt: skip

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

    def _drop_cancelled(self) -> None:
        """Let cancelled choices leave the queue at once; running ones leave before their next step."""
        with self._changed:
            self._scheduler.drop_cancelled()

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                while (plan := self._next_plan()) is not None:
                    self._step_began = time.monotonic()
                    try:
                        events = self._run(plan)
                    finally:
                        self._step_began = None
                    EngineGeneration.emit(events)
        finally:
            with self._changed:
                self._closing = True
                left = self._scheduler.abandon()
            EngineGeneration.emit(_failures(left, "the engine has stopped"))

    def _next_plan(self) -> Plan[ChoiceSequence] | None:
        """Wait for work and say what the next step is; None when the engine closes."""
        with self._changed:
            while not self._closing:
                plan = self._scheduler.plan(self._config.max_running)
                if plan.chunks or plan.copies:
                    return plan
                self._changed.wait()
            return None

    def _run(self, plan: Plan[ChoiceSequence]) -> list[tuple[EngineGeneration, Event]]:
        """A step, and what to tell of it.

        An error of the model ends all that was computed with it, for nobody can tell whose fault it was.
        """
        try:
            for copy in plan.copies:
                self._memory.copy(copy)
            if not plan.chunks:
                return []
            scores = self._decoder.logits(plan.chunks, self._memory)
        except Exception as error:  # noqa: BLE001 - whatever torch raises ends these requests, not the engine
            with self._changed:
                left = self._scheduler.abandon_running()
            return _failures(left, f"{type(error).__name__}: {error}")
        events: list[tuple[EngineGeneration, Event]] = []
        ended = []
        for row, chunk in enumerate(plan.chunks):
            if chunk.reaches_end and not chunk.sequence.cancelled:
                event = self._choose(chunk.sequence, scores.logits[row], scores.best[row])
                events.append((chunk.sequence.choice.generation, event))
                if isinstance(event, EngineFailed) or event.finish is not None:
                    ended.append(chunk.sequence)
        self._commit(plan.chunks, ended)
        return events

    def _choose(self, sequence: ChoiceSequence, logits: torch.Tensor, best: int) -> Event:
        """The next token of a sequence from its row of logits, whose highest is at `best`."""
        choice, request = sequence.choice, sequence.choice.generation.request
        try:
            probabilities = None
            sampler = choice.sampler
            token = sampler.take(best) if sampler.takes_best else sampler.choose(logits.float())
            if request.logprobs is not None:
                probabilities = logprobs(logits.float(), token, request.logprobs)
        except Exception as error:  # noqa: BLE001 - a form that cannot go on is its own request's failure
            return EngineFailed(f"{type(error).__name__}: {error}")
        choice.made += 1
        finish = None
        if token in choice.generation.ends:
            finish = FinishReason.STOP
        elif choice.made >= request.max_tokens:
            finish = FinishReason.LENGTH
        sequence.tokens.append(token)
        return TokenEvent(token, finish, choice.index, probabilities)

    def _commit(self, chunks: list[Chunk[ChoiceSequence]], ended: list[ChoiceSequence]) -> None:
        with self._changed:
            self._steps += 1
            self._rows += len(chunks)
            for chunk in chunks:
                self._scheduler.computed(chunk)
            for sequence in ended:
                self._scheduler.end(sequence)


def _places(sequences: Iterable[ChoiceSequence]) -> int:
    """How many take up one of the places that the limits speak of."""
    return sum(not (sequence.urgent or sequence.cancelled) for sequence in sequences)


def _failures(sequences: Iterable[ChoiceSequence], message: str) -> list[tuple[EngineGeneration, Event]]:
    return [(each, EngineFailed(message)) for each in {sequence.choice.generation for sequence in sequences}]
