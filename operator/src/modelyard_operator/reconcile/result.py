"""What a reconcile function is: its key, its result, its type."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple


class Key(NamedTuple):
    """Which object of a kind; the namespace of a cluster-scoped object is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True)
class Result:
    """What the loop does next."""

    requeue_after_s: float | None = None
    """Reconcile again after so many seconds at the latest; None: at the next resync."""

    done: bool = False
    """The object is gone, or is being deleted and nothing outside the API server is left of it."""


Reconcile = Callable[[Key], Awaitable[Result]]
"""Reads the object afresh and takes it one step towards what it should be; safe to call at any moment."""
