"""Requests in the hands of the transformers engine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import torch

from modelyard_serving.engines.protocol import EngineFailed, GenerationRequest, TokenEvent
from modelyard_serving.engines.sampling import Sampler


class Choice:
    """One answer to a request, as far as it is."""

    def __init__(self, generation: "TransformersGeneration", index: int, sampler: Sampler) -> None:
        self.generation = generation
        self.index = index
        self.sampler = sampler
        self.cancelled = False
        self.told = False
        """The caller has its end."""
        self.cache: Any = None
        self.last_token = 0
        self.made = 0


class TransformersGeneration:
    """One request in the engine; its events cross from the engine's thread to the caller's event loop."""

    def __init__(
        self, request: GenerationRequest, ends: frozenset[int], device: torch.device, on_cancel: Callable[[], None]
    ) -> None:
        self.request = request
        self.ends = ends
        self.choices = [
            Choice(self, index, Sampler(request, ends=ends, device=device, choice=index))
            for index in range(request.choices)
        ]
        self.begun: tuple[torch.Tensor, Any] | None = None
        """The logits after the prompt and its cache, while there are choices that have not begun."""
        self._on_cancel = on_cancel
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[TokenEvent | EngineFailed] = asyncio.Queue()

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

    def has_others_to_begin(self, beginning: Choice) -> bool:
        """Whether choices other than `beginning` are still to begin."""
        return any(other.made == 0 and not other.cancelled for other in self.choices if other is not beginning)

    def emit(self, event: TokenEvent | EngineFailed) -> None:
        """Hand an event to the caller; called in the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the caller's loop is closed: nobody listens any more
            for choice in self.choices:
                choice.cancelled = True
