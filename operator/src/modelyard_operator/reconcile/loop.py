"""One loop for each object: reconcile, then wait for a wake-up, a requeue or the resync."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

from modelyard_operator.kube.client import Kind, KubeClient
from modelyard_operator.kube.errors import Conflict, KubeError
from modelyard_operator.ray.client import RayError
from modelyard_operator.reconcile import finalizer
from modelyard_operator.reconcile.heartbeat import Heartbeat
from modelyard_operator.reconcile.metrics import Metrics
from modelyard_operator.reconcile.result import Key, Reconcile, Result
from modelyard_operator.reconcile.wakeups import Wakeups

logger = logging.getLogger(__name__)

CONFLICTS_AT_ONCE = 5
"""How many conflicts in a row are tried again at once; then the loop backs off as after any error."""
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
BEGINNING = 100
"""How many objects of a kind are looked at for the first time at once. With thousands that come together their requests
would wait in one queue until they time out, and be asked again."""
JITTER = 0.2
"""Waits are stretched by up to this share, so that loops that started together drift apart."""


@dataclass(frozen=True)
class Controlled:
    """A kind whose objects get loops."""

    reconcile: Reconcile
    finalizer: bool
    """Whether something outside the API server must be put away before an object may go."""


@dataclass(frozen=True)
class _Turn:
    """What one turn of a loop came to: a result, or an error and whether to try again at once."""

    result: Result | None = None
    conflict: bool = False


@dataclass(kw_only=True)
class Loops:
    """The loops of all objects; each is an asyncio task that lives as long as its object."""

    kube: KubeClient
    kinds: Mapping[Kind, Controlled]
    wakeups: Wakeups
    heartbeat: Heartbeat
    metrics: Metrics
    resync_s: float
    permitted: Callable[[], Awaitable[None]]
    """Returns when this operator may write; a loop waits for it before each turn."""
    jitter: Callable[[], float] = random.random
    """Gives numbers from 0 to 1."""

    _tasks: dict[tuple[Kind, Key], asyncio.Task[None]] = field(default_factory=dict, init=False)
    _beginning: dict[Kind, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(BEGINNING)), init=False
    )

    def seen(self, kind: Kind, key: Key) -> None:
        """The object exists, or did a moment ago: wake its loop, or start it."""
        if (kind, key) in self._tasks:
            self.wakeups.wake(kind, key)
            return
        task = asyncio.get_running_loop().create_task(self._run(kind, key), name=f"{kind.kind} {key}")
        self._tasks[kind, key] = task

    def count(self, kind: Kind) -> int:
        """How many objects of the kind have a loop."""
        return sum(1 for each, _ in self._tasks if each == kind)

    async def stop(self) -> None:
        """End all loops where they stand; what they were at is taken up by the next operator."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, kind: Kind, key: Key) -> None:
        self.metrics.loops.labels(kind.kind).inc()
        try:
            with self.wakeups.listening(kind, key):
                await self._turns(kind, key)
        finally:
            # No await since the last look for wake-ups: an event from here on starts a new loop.
            del self._tasks[kind, key]
            self.metrics.loops.labels(kind.kind).dec()
            self.metrics.object_gone(kind, key)

    async def _turns(self, kind: Kind, key: Key) -> None:
        held = not self.kinds[kind].finalizer
        failures = conflicts = 0
        begun = False
        while True:
            await self.permitted()
            async with nullcontext() if begun else self._beginning[kind]:
                turn = await self._turn(kind, key, hold=not held)
            begun = begun or turn.result is not None
            if turn.result is not None:
                held, failures, conflicts = True, 0, 0
                if turn.result.done:
                    if not self.wakeups.is_woken(kind, key):
                        return
                    # Something of this name came while its predecessor went: begin as with a new object.
                    held = not self.kinds[kind].finalizer
                await self.wakeups.wait(kind, key, self._rest_s(turn.result))
            elif turn.conflict and conflicts < CONFLICTS_AT_ONCE:
                conflicts += 1
            else:
                failures += 1
                await self._back_off(kind, key, failures)

    async def _turn(self, kind: Kind, key: Key, *, hold: bool) -> _Turn:
        """Reconcile once; every error but cancellation ends here."""
        controlled = self.kinds[kind]
        with self.heartbeat.working(f"{kind.kind} {key}"), self.metrics.reconcile(kind) as outcome:
            try:
                if hold:
                    await finalizer.hold(self.kube, kind, key)
                result = await controlled.reconcile(key)
                if result.done and controlled.finalizer:
                    await finalizer.release(self.kube, kind, key)
            except Conflict as error:
                outcome.set("conflict")
                logger.debug("Conflict: %s", error, extra=_about(kind, key))
                return _Turn(conflict=True)
            except (KubeError, RayError) as error:
                outcome.set(type(error).__name__)
                logger.warning("%s: %s", type(error).__name__, error, extra=_about(kind, key))
                return _Turn()
            except Exception:  # The one place where a mistake of ours must not end a loop.
                outcome.set("failed")
                logger.exception("Reconciling failed", extra=_about(kind, key))
                return _Turn()
            return _Turn(result)

    async def _back_off(self, kind: Kind, key: Key, failures: int) -> None:
        """Wait longer with each failure in a row; a wake-up shortens it, but never below the first wait."""
        delay = min(FIRST_BACKOFF_S * 2 ** min(failures - 1, 10), MAX_BACKOFF_S)
        await asyncio.sleep(self._stretched(FIRST_BACKOFF_S))
        await self.wakeups.wait(kind, key, self._stretched(delay) - FIRST_BACKOFF_S)

    def _rest_s(self, result: Result) -> float:
        if result.requeue_after_s is None:
            return self._stretched(self.resync_s)
        return min(result.requeue_after_s, self.resync_s)

    def _stretched(self, seconds: float) -> float:
        return seconds * (1 + JITTER * self.jitter())


def _about(kind: Kind, key: Key) -> dict[str, str]:
    """What a log line is about; see `logs`."""
    return {"kind": kind.kind, "object": str(key)}
