"""Wake-ups: how a watch event reaches the loop of an object."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from modelyard_operator.kube.client import Kind
from modelyard_operator.reconcile.result import Key


class Wakeups:
    """One flag for each object that has a loop.

    A flag stays up until its loop takes it down right before it looks at the world, so a wake-up that comes
    while the loop is at work makes it look once more. An object without a loop needs none: loops begin with a
    look.
    """

    def __init__(self) -> None:
        self._flags: dict[Kind, dict[Key, asyncio.Event]] = {}

    @contextmanager
    def listening(self, kind: Kind, key: Key) -> Iterator[None]:
        """Wake-ups for this object count inside the block; nothing of them is kept after it."""
        flags = self._flags.setdefault(kind, {})
        flags[key] = asyncio.Event()
        try:
            yield
        finally:
            del flags[key]

    def wake(self, kind: Kind, key: Key) -> None:
        """Make the object's loop look again, now or when it is done with the present look."""
        flag = self._flags.get(kind, {}).get(key)
        if flag is not None:
            flag.set()

    def wake_all(self, kind: Kind) -> None:
        """Wake every loop of a kind."""
        for flag in self._flags.get(kind, {}).values():
            flag.set()

    def wake_namespace(self, kind: Kind, namespace: str) -> None:
        """Wake every loop of a kind in one namespace."""
        for key, flag in self._flags.get(kind, {}).items():
            if key.namespace == namespace:
                flag.set()

    def is_woken(self, kind: Kind, key: Key) -> bool:
        """Whether a wake-up waits to be taken."""
        return self._flags[kind][key].is_set()

    async def wait(self, kind: Kind, key: Key, timeout_s: float) -> bool:
        """Wait for a wake-up and take it; False where none came within `timeout_s` seconds."""
        flag = self._flags[kind][key]
        try:
            async with asyncio.timeout(timeout_s):
                await flag.wait()
        except TimeoutError:
            return False
        flag.clear()
        return True
