"""An API server in memory, for unit tests of what talks to one.

It keeps what reconcilers rely on: server-side apply with the field ownership of one manager, resource versions
and their conflicts, generations, finalizers, uids, garbage collection on demand. It knows no schema, no RBAC.

    kube = FakeKube()
    kube.put({...})                       # what others wrote
    kube.fail("apply", RAY_CLUSTER, Unavailable("down"))
    await loop.reconcile(Key("team-a", "x"))
    assert kube.writes == []              # a second look writes nothing
"""

import builtins
import copy
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modelyard_operator.kube.client import Kind, Manifest, kind_of
from modelyard_operator.kube.errors import AlreadyExists, Conflict, KindAbsent, KubeError

CREATED = "2026-01-01T00:00:00Z"


class Write(NamedTuple):
    """A write that changed something."""

    verb: str
    kind: str
    namespace: str
    name: str


class _Id(NamedTuple):
    kind: Kind
    namespace: str
    name: str


@dataclass
class _Entry:
    manifest: Manifest
    applied: Manifest = field(default_factory=dict)
    """What the operator last applied: what it owns."""
    applied_status: Manifest = field(default_factory=dict)


class FakeKube:
    """`KubeClient` in memory. `writes` lists the operator's writes that changed something, oldest first."""

    def __init__(self, *, absent: Sequence[Kind] = ()) -> None:
        self.writes: list[Write] = []
        self.requests: list[Write] = []
        """Every request, also those that changed nothing."""
        self.absent = set(absent)
        """Kinds whose CRD is not installed."""
        self._entries: dict[_Id, _Entry] = {}
        self._failures: dict[tuple[str, Kind], list[KubeError]] = defaultdict(list)
        self._counter = itertools.count(1)
        self.watch: Callable[[str, Manifest], object] = lambda event, manifest: None
        """Told of each change, as a watch of everything."""

    # What tests do behind the operator's back.

    def put(self, manifest: Manifest) -> Manifest:
        """Create or replace as somebody else; generated metadata and what the operator owns stay."""
        entry = self._entries.get(_id(manifest))
        before = entry.manifest if entry else None
        stored = copy.deepcopy(manifest)
        if before is not None:
            generated = ("uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp")
            kept = {name: before["metadata"][name] for name in generated if name in before["metadata"]}
            stored["metadata"] = {**stored["metadata"], **kept}
        return self._store(stored, entry or _Entry({}))

    def put_status(self, kind: Kind, name: str, status: Manifest, *, namespace: str = "") -> Manifest:
        """Replace the status as the object's own controller does."""
        entry = self._entries[_Id(kind, namespace, name)]
        return self._store({**entry.manifest, "status": copy.deepcopy(status)}, entry)

    def fail(self, verb: str, kind: Kind, error: KubeError, *, times: int = 1) -> None:
        """Answer the next `times` requests of this verb and kind with `error`, before they do anything."""
        self._failures[verb, kind] += [error] * times

    def find(self, kind: Kind, name: str, *, namespace: str = "") -> Manifest | None:
        """The object as it stands, without a request."""
        entry = self._entries.get(_Id(kind, namespace, name))
        return copy.deepcopy(entry.manifest) if entry else None

    def all(self, kind: Kind) -> list[Manifest]:
        """All objects of a kind as they stand, without a request."""
        names = sorted((i.namespace, i.name) for i in self._entries if i.kind == kind)
        return [copy.deepcopy(self._entries[_Id(kind, *each)].manifest) for each in names]

    def remove(self, kind: Kind, name: str, *, namespace: str = "") -> None:
        """Take the object away, whatever its finalizers say."""
        self._remove(_Id(kind, namespace, name))

    def _remove(self, identity: _Id) -> None:
        manifest = self._entries.pop(identity).manifest
        metadata = {**manifest["metadata"], "resourceVersion": str(next(self._counter))}
        self.watch("DELETED", {**copy.deepcopy(manifest), "metadata": metadata})

    def collect_garbage(self) -> None:
        """Take away objects whose owner is gone, as often as that leaves others without one."""
        while True:
            uids = {entry.manifest["metadata"]["uid"] for entry in self._entries.values()}
            orphans = [
                each for each, entry in self._entries.items()
                if (owners := entry.manifest["metadata"].get("ownerReferences"))
                and not any(owner["uid"] in uids for owner in owners)
            ]  # fmt: skip
            if not orphans:
                return
            for orphan in orphans:
                self._remove(orphan)

    def dump(self) -> builtins.list[Manifest]:
        """All that is kept, as plain data, with what the operator owns of it."""
        entries = [self._entries[each] for each in sorted(self._entries, key=_order)]
        return [
            copy.deepcopy({"object": e.manifest, "applied": e.applied, "appliedStatus": e.applied_status})
            for e in entries
        ]

    def load(self, dumped: Sequence[Manifest]) -> None:
        """Keep what `dump` gave, and nothing else."""
        entries = [_Entry(each["object"], each["applied"], each["appliedStatus"]) for each in copy.deepcopy([*dumped])]
        self._entries = {_id(entry.manifest): entry for entry in entries}
        versions = [int(entry.manifest["metadata"]["resourceVersion"]) for entry in entries]
        self._counter = itertools.count(1 + max(versions))

    # KubeClient.

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest | None:
        self._request("get", kind, namespace, name)
        return self.find(kind, name, namespace=_scope(kind, namespace))

    async def list(self, kind: Kind, *, namespace: str | None = None, labels: str | None = None) -> Sequence[Manifest]:
        self._request("list", kind, namespace, "")
        return [
            each for each in self.all(kind)
            if (not namespace or each["metadata"].get("namespace") == namespace)
            and _matches(each["metadata"].get("labels") or {}, labels)
        ]  # fmt: skip

    async def apply(self, manifest: Manifest) -> Manifest:
        wanted = {name: value for name, value in copy.deepcopy(manifest).items() if name != "status"}
        version = wanted["metadata"].pop("resourceVersion", None)
        wanted["metadata"].pop("uid", None)
        identity = self._request("apply", kind_of(manifest), wanted["metadata"].get("namespace"), _name(manifest))
        entry = self._entries.get(identity) or _Entry({})
        if version is not None and entry.manifest:
            self._check_version(entry.manifest, version)
        merged = _merge(entry.manifest, entry.applied, wanted)
        entry.applied = wanted
        return self._write("apply", identity, merged, entry)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        kind, metadata = kind_of(manifest), manifest["metadata"]
        identity = self._request("apply_status", kind, metadata.get("namespace"), _name(manifest))
        entry = self._existing(identity)
        if "resourceVersion" in metadata:
            self._check_version(entry.manifest, metadata["resourceVersion"])
        wanted = copy.deepcopy(manifest["status"])
        status = _merge(entry.manifest.get("status") or {}, entry.applied_status, wanted)
        entry.applied_status = wanted
        return self._write("apply_status", identity, {**entry.manifest, "status": status}, entry)

    async def set_finalizers(self, manifest: Manifest, finalizers: Sequence[str]) -> None:
        metadata = manifest["metadata"]
        identity = self._request("set_finalizers", kind_of(manifest), metadata.get("namespace"), metadata["name"])
        entry = self._existing(identity)
        self._check_version(entry.manifest, metadata["resourceVersion"])
        changed = copy.deepcopy(entry.manifest)
        changed["metadata"]["finalizers"] = [*finalizers]
        self._write("set_finalizers", identity, changed, entry)
        if "deletionTimestamp" in changed["metadata"] and not finalizers:
            self._remove(identity)

    async def delete(self, kind: Kind, name: str, *, namespace: str | None = None, uid: str | None = None) -> bool:
        identity = self._request("delete", kind, namespace, name)
        entry = self._entries.get(identity)
        if entry is None or (uid is not None and entry.manifest["metadata"]["uid"] != uid):
            return False
        if entry.manifest["metadata"].get("finalizers"):
            changed = copy.deepcopy(entry.manifest)
            changed["metadata"].setdefault("deletionTimestamp", CREATED)
            self._write("delete", identity, changed, entry)
        else:
            self.writes.append(Write("delete", kind.kind, identity.namespace, name))
            self._remove(identity)
        return True

    async def create(self, manifest: Manifest) -> Manifest:
        kind, metadata = kind_of(manifest), manifest["metadata"]
        identity = self._request("create", kind, metadata.get("namespace"), metadata["name"])
        if identity in self._entries:
            raise AlreadyExists(f"{kind.kind} {metadata['name']}")
        return self._write("create", identity, copy.deepcopy(manifest), _Entry({}))

    def _request(self, verb: str, kind: Kind, namespace: str | None, name: str) -> _Id:
        scope = (namespace or "") if verb == "list" else _scope(kind, namespace)
        self.requests.append(Write(verb, kind.kind, scope, name))
        if self._failures[verb, kind]:
            raise self._failures[verb, kind].pop(0)
        if kind in self.absent:
            raise KindAbsent(f"{verb} {kind.kind}")
        return _Id(kind, scope, name)

    def _existing(self, identity: _Id) -> _Entry:
        if identity not in self._entries:
            raise Conflict(f"{identity.kind.kind} {identity.name} is gone")
        return self._entries[identity]

    def _check_version(self, standing: Manifest, version: str) -> None:
        if standing["metadata"]["resourceVersion"] != version:
            raise Conflict(f"{standing['kind']} {standing['metadata']['name']} has been modified")

    def _write(self, verb: str, identity: _Id, manifest: Manifest, entry: _Entry) -> Manifest:
        if manifest != entry.manifest:
            self.writes.append(Write(verb, identity.kind.kind, identity.namespace, identity.name))
        return self._store(manifest, entry)

    def _store(self, manifest: Manifest, entry: _Entry) -> Manifest:
        """Keep `manifest` with the metadata that the API server gives; an unchanged one changes nothing."""
        identity, before = _id(manifest), entry.manifest
        if manifest != before:
            metadata = dict(manifest["metadata"])
            metadata.setdefault("uid", f"uid-{next(self._counter)}")
            metadata.setdefault("creationTimestamp", CREATED)
            metadata["resourceVersion"] = str(next(self._counter))
            changed = not before or _intent(before) != _intent(manifest)
            metadata["generation"] = metadata.get("generation", 0) + int(changed)
            entry.manifest = {**manifest, "metadata": metadata}
            self._entries[identity] = entry
            self.watch("MODIFIED" if before else "ADDED", copy.deepcopy(entry.manifest))
        self._entries[identity] = entry
        return copy.deepcopy(entry.manifest)


def _scope(kind: Kind, namespace: str | None) -> str:
    if kind.namespaced and not namespace:
        raise ValueError(f"{kind.kind}: a namespace is needed")
    return (namespace or "") if kind.namespaced else ""


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _order(each: _Id) -> tuple[str, str, str]:
    return each.kind.kind, each.namespace, each.name


def _id(manifest: Manifest) -> _Id:
    kind = kind_of(manifest)
    return _Id(kind, _scope(kind, manifest["metadata"].get("namespace")), _name(manifest))


def _intent(manifest: Manifest) -> Manifest:
    """What a change of makes another generation."""
    return {name: value for name, value in manifest.items() if name not in ("metadata", "status")}


def _merge(live: Manifest, owned: Manifest, wanted: Manifest) -> Manifest:
    """Server-side apply by one manager: `owned` was applied before. Lists are replaced whole."""
    merged: dict[str, Any] = {}
    for name in [*live, *(each for each in wanted if each not in live)]:
        mine, before, now = wanted.get(name), owned.get(name), live.get(name)
        if isinstance(now, dict) and (isinstance(mine, dict) or (mine is None and isinstance(before, dict))):
            nested = _merge(now, before if isinstance(before, dict) else {}, mine or {})
            if nested or name in wanted:
                merged[name] = nested
        elif name in wanted:
            merged[name] = mine
        elif name not in owned:
            merged[name] = now
    return merged


def _matches(labels: dict[str, str], selector: str | None) -> bool:
    """Equality and presence, the selectors that the operator uses."""
    for term in (selector or "").split(","):
        name, equals, value = term.partition("=")
        if any(sign in term for sign in "!()"):
            raise ValueError(f"the fake knows no selector like {term!r}")
        if term and (name not in labels or (equals and labels[name] != value.lstrip("="))):
            return False
    return True
