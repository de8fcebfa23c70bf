"""Objects that the operator keeps as it wants them; what somebody else did to one is undone and told as an Event.

What was last written is remembered by this process only. So the operator's own changes are never taken for somebody
else's, and one that has just started puts back silently what changed while nobody watched.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from modelyard_operator.api.conditions import Reason
from modelyard_operator.kube.client import Kind, KubeClient, Manifest, kind_of
from modelyard_operator.kube.errors import Unavailable

log = logging.getLogger(__name__)

_MOST_PATHS = 3
"""How many of the fields that were put back an Event names."""


class Recorder(Protocol):
    """Publishes Events; never blocks and never fails."""

    def publish(self, regarding: Manifest, *, warning: bool, reason: str, message: str) -> None:
        """An Event about the object `regarding`."""


class _Id(NamedTuple):
    kind: Kind
    namespace: str
    name: str


class Upkeep:
    """Writes children and remembers what it wrote."""

    def __init__(self, kube: KubeClient, events: Recorder) -> None:
        self._kube = kube
        self._events = events
        self._kept: dict[_Id, Manifest] = {}

    async def keep(
        self, wanted: Manifest, live: Manifest | None, *, owner: Manifest | None = None, steady: Manifest | None = None
    ) -> Manifest:
        """Apply `wanted` unless `live`, as just read, says all of it already; gives the object as it then stands.

        Where that undoes what somebody else did, an Event on `owner`, or else on the object itself, names the fields.
        `steady` is the part of `wanted` that nobody but the operator writes, for objects that others write to by
        right; without it that is all.
        """
        identity = _id(wanted)
        if live is not None and contains(live, wanted):
            self._kept[identity] = steady or wanted
            return live
        undone = _undone(self._kept.get(identity), live)
        standing = await self.write(wanted, steady=steady)
        if undone:
            self.tell(owner or standing, f"{identity.kind.kind} {identity.namespace}/{identity.name} {undone}")
        return standing

    async def write(self, wanted: Manifest, *, steady: Manifest | None = None) -> Manifest:
        """Apply `wanted`, whatever stands, as a change of the operator's own."""
        identity = _id(wanted)
        try:
            standing = await self._kube.apply(wanted)
        except Unavailable:
            # It may have been written all the same: what stands next may be ours.
            self._kept.pop(identity, None)
            raise
        self._kept[identity] = steady or wanted
        return standing

    def found_right(self, manifest: Manifest) -> None:
        """An object stands as it should, whoever wrote it."""
        self._kept[_id(manifest)] = manifest

    def kept(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """An object as it was last written or found right; None where this process does not know."""
        return self._kept.get(_Id(kind, namespace, name))

    async def put_away(self, live: Manifest) -> bool:
        """Delete an object as it was read, for the operator itself wants it gone; False where it is going already."""
        identity = _id(live)
        self._kept.pop(identity, None)
        if "deletionTimestamp" in live["metadata"]:
            return False
        await self._kube.delete(
            identity.kind, identity.name, namespace=identity.namespace, uid=live["metadata"].get("uid")
        )
        return True

    def tell(self, owner: Manifest, undone: str) -> None:
        """An Event and a log line about somebody else's change that was undone; the text begins with what it was."""
        log.warning("Drift undone: %s", undone)
        self._events.publish(owner, warning=True, reason=Reason.DRIFT_UNDONE, message=undone)


def reference(kind: Kind, namespace: str, name: str, uid: str) -> Manifest:
    """An object to which an Event may be tied, where its manifest is not at hand."""
    metadata = {"name": name, "namespace": namespace, "uid": uid}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def contains(live: Any, wanted: Any) -> bool:
    """Whether `live` already says all that `wanted` says; what the API server added does not count."""
    return next(differences(live, wanted), None) is None


def differences(live: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields in which `live` does not say what `wanted` says."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for name, value in wanted.items():
            below = f"{path}.{name}" if path else str(name)
            if name in live:
                yield from differences(live[name], value, below)
            else:
                yield below
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for index, value in enumerate(wanted):
            yield from differences(live[index], value, f"{path}[{index}]")
    elif live != wanted:
        yield path


def _undone(kept: Manifest | None, live: Manifest | None) -> str:
    """What somebody else did to an object since it was kept; empty where nobody did, or nobody knows.

    An empty list that is left out is nothing that anybody did: KubeRay writes whole objects to add its finalizer, and
    Go leaves empty lists out. It is put back all the same, for Ray's autoscaler ends without `workerGroupSpecs`.
    """
    if kept is None:
        return ""
    if live is None:
        return "was deleted by somebody else: made again"
    paths = list(differences(live, _without_empty_lists(kept)))
    if not paths:
        return ""
    more = f" and {len(paths) - _MOST_PATHS} more" if len(paths) > _MOST_PATHS else ""
    return f"was changed by somebody else: put back {', '.join(paths[:_MOST_PATHS])}{more}"


def _without_empty_lists(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: _without_empty_lists(below) for name, below in value.items() if below != []}


def _id(manifest: Manifest) -> _Id:
    metadata = manifest["metadata"]
    return _Id(kind_of(manifest), metadata.get("namespace", ""), metadata["name"])
