"""The engine for models that answer in one step: requests that wait together are computed together.

One thread computes. While it does, requests gather; the next batch is made of what is there then (`grouping`).
Requests take turns, so that one with thousands of items holds up no other. Knows nothing of torch.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.grouping import BatchLimits, LastBatch, choose, hold_until
from modelyard_serving.engines.protocol import EngineFailed, EngineStats, QueueFull

STUCK_AFTER_S = 120.0
"""A batch that takes longer is not slow but stuck."""

MAX_WAIT_S = 0.002
"""How long a request waits for the company that there was a moment ago, in seconds."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Item(Generic[In]):
    """One thing to compute; `length` is what it takes of a batch, in cells."""

    value: In
    length: int


class Job(Generic[In, Out]):
    """A request's items in the hands of the engine. Whoever has it must `cancel` it in the end, however it ended."""

    def __init__(self, items: Sequence[Item[In]], on_cancel: Callable[[], None], *, turn: float) -> None:
        self.supply(items)
        self.turn = turn
        self.cancelled = False
        self._on_cancel = on_cancel
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[list[Out]] = self._loop.create_future()
        self._results: dict[int, Out] = {}

    def supply(self, items: Sequence[Item[In]]) -> None:
        """These are the items to compute."""
        self.items = items
        # Longest first: items of about the same length stand beside each other.
        self.waiting = sorted(range(len(items)), key=lambda place: -items[place].length)
        self.arrived = time.monotonic()

    async def result(self) -> list[Out]:
        """What the items came to, in their order; raises `EngineFailed`."""
        return await self._done

    def cancel(self) -> None:
        """What is not computed yet never will be. Harmless after the end and when called twice."""
        self.cancelled = True
        self._done.cancel()
        self._on_cancel()

    def put(self, place: int, result: Out) -> bool:
        """Note a result; true when it was the last. Called in the engine's thread, as are the others below."""
        self._results[place] = result
        return len(self._results) == len(self.items)

    def finish(self) -> None:
        """Hand all results to the caller."""
        self._tell(lambda: self._done.set_result([self._results[place] for place in range(len(self.items))]))

    def fail(self, failure: EngineFailed) -> None:
        """Tell the caller that there will be no results."""
        self._tell(lambda: self._done.set_exception(failure))

    def _tell(self, told: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(lambda: None if self._done.done() else told())
        except RuntimeError:  # the caller's loop is closed: nobody listens any more
            self.cancelled = True


class DynamicBatchingEngine(Generic[In, Out]):
    """Runs `compute`, which takes the values of a batch and gives as many results, in one thread of its own."""

    def __init__(
        self,
        compute: Callable[[Sequence[In]], Sequence[Out]],
        *,
        config: EngineConfig,
        limits: BatchLimits | None = None,
        max_wait_s: float = MAX_WAIT_S,
        stuck_after_s: float = STUCK_AFTER_S,
    ) -> None:
        self._compute = compute
        self._config = config
        self._limits = limits or BatchLimits()
        self._max_wait_s = max_wait_s
        self._stuck_after_s = stuck_after_s
        self._jobs: list[Job[In, Out]] = []
        self._running: set[Job[In, Out]] = set()
        self._now = 0.0
        """The turn of the request that went last: a new one joins the round there."""
        self._last: LastBatch | None = None
        self._batches = 0
        self._items = 0
        self._changed = threading.Condition()
        self._closing = False
        self._batch_began: float | None = None
        self._thread = threading.Thread(target=self._work, name="modelyard-batches", daemon=True)
        self._thread.start()

    def submit(self, items: Sequence[Item[In]] | None, *, urgent: bool = False, admitted: bool = False) -> Job[In, Out]:
        """Take on a request of the running event loop; an urgent one is first, however full the queue is.

        Items that take work to make, None, follow by `supply`: the request has its place in the queue meanwhile.
        One that is `admitted`, the next part of what was taken before, waits its turn, but is never refused a place.

        Raises:
            QueueFull: there is no place for it.
            EngineFailed: the engine is broken.
        """
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise EngineFailed("the engine has stopped")
            places = self._config.max_running + self._config.max_queued
            if not (urgent or admitted) and len(self._running.union(self._jobs)) >= places:
                raise QueueFull
            turn = float("-inf") if urgent else self._now
            job: Job[In, Out] = Job(items or (), self._drop_cancelled, turn=turn)
            if items is None or items:
                self._jobs.append(job)
                self._changed.notify()
            else:
                job.finish()
        return job

    def supply(self, job: Job[In, Out], items: Sequence[Item[In]]) -> None:
        """Hand in the items of a request that was submitted without; there must be some."""
        with self._changed:
            job.supply(items)
            job.turn = max(job.turn, self._now)
            self._changed.notify()

    def stats(self) -> EngineStats:
        with self._changed:
            running = len(self._running)
            queued = len(self._running.union(self._jobs)) - running
            return EngineStats(running, queued, batches=self._batches, batch_items=self._items)

    def check(self) -> None:
        """Raise `EngineFailed` when the engine makes no progress any more."""
        if not self._thread.is_alive():
            raise EngineFailed("the engine's thread is gone")
        began = self._batch_began
        if began is not None and time.monotonic() - began > self._stuck_after_s:
            raise EngineFailed(f"the engine's batch has not come back for {time.monotonic() - began:.0f} s")

    def resize(self, config: EngineConfig) -> None:
        """Obey new limits from now on; what runs or waits goes on."""
        with self._changed:
            self._config = config

    def close(self) -> None:
        """Fail what is left and stop; may wait for the batch in progress."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=self._stuck_after_s)

    def _drop_cancelled(self) -> None:
        with self._changed:
            self._jobs = [job for job in self._jobs if not job.cancelled]

    def _work(self) -> None:
        try:
            while batch := self._next_batch():
                self._batch_began = time.monotonic()
                done = self._run(batch)
                self._batch_began = None
                with self._changed:
                    self._last = LastBatch(time.monotonic(), len(self._running))
                    self._running.clear()
                    self._jobs = [job for job in self._jobs if job not in done]
                for job in done:  # only now: who has the answer sees that its place is free
                    job.finish()
        finally:
            with self._changed:
                self._closing = True
                left = {*self._jobs, *self._running}
                self._jobs.clear()
                self._running.clear()
            for job in left:
                job.fail(EngineFailed("the engine has stopped"))

    def _next_batch(self) -> list[tuple[Job[In, Out], int]]:
        """Wait for work and take a batch of it; empty when the engine closes."""
        with self._changed:
            while not self._closing:
                ready = sorted((job for job in self._jobs if job.waiting), key=lambda job: (job.turn, job.arrived))
                if not ready:
                    self._changed.wait()
                    continue
                oldest = min(job.arrived for job in ready)
                hold = hold_until(oldest, len(ready), self._last, self._max_wait_s) - time.monotonic()
                if hold > 0 and sum(len(job.waiting) for job in ready) < self._limits.items:
                    self._changed.wait(hold)
                    continue
                return self._take(ready)
            return []

    def _take(self, ready: Sequence[Job[In, Out]]) -> list[tuple[Job[In, Out], int]]:
        """The next batch out of these requests, the first of which has its turn."""
        offered = [(job, place) for job in ready for place in job.waiting[: self._limits.items]]
        batch = [offered[index] for index in choose([job.items[at].length for job, at in offered], self._limits)]
        first = ready[0]
        self._now = max(self._now, first.turn)
        first.turn += 1
        for job in {job for job, _ in batch}:
            taken = {place for owner, place in batch if owner is job}
            job.waiting = [place for place in job.waiting if place not in taken]
            self._running.add(job)
        self._batches += 1
        self._items += len(batch)
        return batch

    def _run(self, batch: Sequence[tuple[Job[In, Out], int]]) -> set[Job[In, Out]]:
        """Compute a batch; where it fails, each request alone, so that one fails no other. Tells who is complete."""
        jobs = list(dict.fromkeys(job for job, _ in batch))
        try:
            return self._fill(batch)
        except Exception as error:  # noqa: BLE001 - whatever the model raises ends these requests alone
            if len(jobs) == 1:
                self._give_up(jobs[0], error)
                return set()
        done: set[Job[In, Out]] = set()
        for job in jobs:
            own = [(owner, place) for owner, place in batch if owner is job]
            try:
                done |= self._fill(own)
            except Exception as error:  # noqa: BLE001 - as above
                self._give_up(job, error)
        return done

    def _fill(self, batch: Sequence[tuple[Job[In, Out], int]]) -> set[Job[In, Out]]:
        results: Sequence[Any] = self._compute([job.items[place].value for job, place in batch])
        return {job for (job, place), result in zip(batch, results, strict=True) if job.put(place, result)}

    def _give_up(self, job: Job[In, Out], error: Exception) -> None:
        with self._changed:
            self._jobs = [other for other in self._jobs if other is not job]
            self._running.discard(job)
        job.fail(EngineFailed(f"{type(error).__name__}: {error}"))
