"""Requests in an engine's hands, and the way of their events from its thread to the callers' event loops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import torch

from modelyard_serving.engines.protocol import EngineFailed, GenerationRequest, TokenEvent
from modelyard_serving.engines.sampling import Sampler

Event = TokenEvent | EngineFailed


class Choice:
    """One answer to a request, as far as the caller and the sampler see it."""

    def __init__(self, generation: "EngineGeneration", index: int, sampler: Sampler) -> None:
        self.generation = generation
        self.index = index
        self.sampler = sampler
        self.cancelled = False
        self.told = False
        """The caller has its end."""
        self.made = 0
        self.last_token = 0
        self.cache: Any = None
        """Keys and values, for an engine that keeps them one by one."""


class EngineGeneration:
    """One request; its events are made in the engine's thread and read in the caller's event loop."""

    def __init__(
        self, request: GenerationRequest, ends: frozenset[int], device: torch.device, on_cancel: Callable[[], None]
    ) -> None:
        self.request = request
        self.ends = ends
        self.choices = [
            Choice(self, index, Sampler(request, ends=ends, device=device, choice=index))
            for index in range(request.choices)
        ]
        self.begun: Any = None
        """What is computed of the prompt, for an engine that computes choices one by one."""
        self._on_cancel = on_cancel
        self.loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[TokenEvent]:
        while not all(choice.told or choice.cancelled for choice in self.choices):
            event = await self._events.get()
            if isinstance(event, EngineFailed):
                raise event
            choice = self.choices[event.choice]
            if choice.cancelled:
                continue
            choice.told = event.finish is not None
            yield event

    def cancel(self, choice: int | None = None) -> None:
        for each in self.choices if choice is None else [self.choices[choice]]:
            each.cancelled = True
        self._on_cancel()

    @staticmethod
    def emit(events: "Iterable[tuple[EngineGeneration, Event]]") -> None:
        """Hand events to their callers, waking each event loop once; called in the engine's thread."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[EngineGeneration, Event]]] = {}
        for generation, event in events:
            by_loop.setdefault(generation.loop, []).append((generation, event))
        for loop, told in by_loop.items():
            try:
                loop.call_soon_threadsafe(_deliver, told)
            except RuntimeError:  # the callers' loop is closed: nobody listens any more
                for generation, _ in told:
                    for choice in generation.choices:
                        choice.cancelled = True

    def deliver(self, event: Event) -> None:
        """Called in the caller's event loop."""
        self._events.put_nowait(event)


def _deliver(told: list[tuple[EngineGeneration, Event]]) -> None:
    for generation, event in told:
        generation.deliver(event)
