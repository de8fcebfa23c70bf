"""Heartbeats: whether the operator's loops still finish what they begin.

A process can answer HTTP and reconcile nothing. The liveness probe therefore asks here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Heartbeat:
    """Knows since when each loop has been at work, and when the background tasks last ticked."""

    def __init__(self, clock: Callable[[], float], stuck_after_s: float) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._begun: dict[str, float] = {}
        self._ticked: dict[str, float] = {}

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """The loop `name` is at work inside the block."""
        self._begun[name] = self._clock()
        try:
            yield
        finally:
            del self._begun[name]

    def tick(self, name: str) -> None:
        """The background task `name` is alive; from its first tick on more are expected."""
        self._ticked[name] = self._clock()

    def stuck(self) -> list[str]:
        """A sentence for each loop that does not finish and each background task that does not tick."""
        now, limit = self._clock(), self._stuck_after_s
        loops = [
            f"{name} has been at work for {now - at:.0f} s"
            for name, at in self._begun.items()
            if now - at > limit
        ]
        tasks = [
            f"{name} last ticked {now - at:.0f} s ago"
            for name, at in self._ticked.items()
            if now - at > limit
        ]
        return sorted(loops + tasks)
