"""Heartbeats: whether the operator's loops still finish what they begin.

A process can answer HTTP and reconcile nothing. The liveness probe therefore asks here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Heartbeat:
    """Knows since when each loop has been at work."""

    def __init__(self, clock: Callable[[], float], stuck_after_s: float) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._begun: dict[str, float] = {}

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """The loop `name` is at work inside the block."""
        self._begun[name] = self._clock()
        try:
            yield
        finally:
            del self._begun[name]

    def stuck(self) -> list[str]:
        """A sentence for each loop that does not finish."""
        now = self._clock()
        return sorted(
            f"{name} has been at work for {now - at:.0f} s"
            for name, at in self._begun.items()
            if now - at > self._stuck_after_s
        )
