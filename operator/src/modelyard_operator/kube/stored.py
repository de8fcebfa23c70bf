"""A client of the API server that keeps a store up to date, and the store as a reader."""

import asyncio
import builtins
import logging
from collections.abc import Sequence

from modelyard_operator.kube.client import Kind, KubeClient, Manifest, kind_of
from modelyard_operator.kube.errors import Conflict, KindAbsent, KubeError
from modelyard_operator.kube.store import Reader, Store

log = logging.getLogger(__name__)

_AGAIN_S = 5.0
"""How soon a complete LIST that failed is tried again."""


class StoredKube:
    """`KubeClient` that asks the API server and notes in the store what it answers."""

    def __init__(self, api: KubeClient, store: Store) -> None:
        self._api = api
        self._store = store

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest | None:
        found = await self._api.get(kind, name, namespace=namespace)
        if found is not None:
            self._store.note(kind, found)
        return found

    async def list(self, kind: Kind, *, namespace: str | None = None, labels: str | None = None) -> Sequence[Manifest]:
        found = await self._api.list(kind, namespace=namespace, labels=labels)
        for manifest in found:
            self._store.note(kind, manifest)
        return found

    async def apply(self, manifest: Manifest) -> Manifest:
        try:
            return self._noted(await self._api.apply(manifest))
        except Conflict:
            # Something is newer than what was seen; who tries again must see it.
            metadata = manifest["metadata"]
            await self.get(kind_of(manifest), metadata["name"], namespace=metadata.get("namespace"))
            raise

    async def apply_status(self, manifest: Manifest) -> Manifest:
        return self._noted(await self._api.apply_status(manifest))

    async def delete(self, kind: Kind, name: str, *, namespace: str | None = None, uid: str | None = None) -> bool:
        return await self._api.delete(kind, name, namespace=namespace, uid=uid)

    async def set_finalizers(self, manifest: Manifest, finalizers: Sequence[str]) -> None:
        await self._api.set_finalizers(manifest, finalizers)

    async def create(self, manifest: Manifest) -> Manifest:
        return self._noted(await self._api.create(manifest))

    def _noted(self, manifest: Manifest) -> Manifest:
        self._store.note_own(kind_of(manifest), manifest)
        return manifest


class Seen:
    """Reads from the store what is kept there whole, and asks the API server for the rest.

    That an object does not exist is never taken from the store: the API server is asked.
    """

    def __init__(self, api: Reader, store: Store) -> None:
        self._api = api
        self._store = store

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest | None:
        found = self._store.find(kind, name, namespace or "") if self._store.is_complete(kind) else None
        return found if found is not None else await self._api.get(kind, name, namespace=namespace)

    async def list(self, kind: Kind, *, namespace: str | None = None, labels: str | None = None) -> Sequence[Manifest]:
        found = self._store.select(kind, namespace, labels)
        return found if found is not None else await self._api.list(kind, namespace=namespace, labels=labels)


class Completion:
    """Takes complete LISTs: at the start, from time to time, and when a watch may have missed deletions."""

    def __init__(self, api: Reader, store: Store, *, every_s: float) -> None:
        self._api = api
        self._store = store
        self._every_s = every_s
        self._asked: dict[Kind, asyncio.Event] = {kind: asyncio.Event() for kind in store.kinds}
        self.started = asyncio.Event()
        """Set when each kind was listed once, or could not be."""

    def ask(self, kind: Kind) -> None:
        """Take a LIST of the kind soon."""
        self._asked[kind].set()

    async def run(self) -> None:
        """List for ever."""
        first: builtins.list[bool] = await asyncio.gather(*(self._complete(kind) for kind in self._asked))
        self.started.set()
        async with asyncio.TaskGroup() as group:
            for kind, done in zip(self._asked, first, strict=True):
                group.create_task(self._keep(kind, done=done), name=f"lists of {kind.plural}")

    async def _keep(self, kind: Kind, *, done: bool) -> None:
        while True:
            try:
                async with asyncio.timeout(self._every_s if done else _AGAIN_S):
                    await self._asked[kind].wait()
            except TimeoutError:
                pass
            self._asked[kind].clear()
            done = await self._complete(kind)

    async def _complete(self, kind: Kind) -> bool:
        try:
            await self._store.complete(kind, self._api)
        except KindAbsent:
            return False  # Its loops say so.
        except KubeError as error:
            log.warning("%s cannot be listed: %s", kind.plural, error)
            return False
        return True
