"""What the operator has seen of the kinds that it watches, in memory; see docs/design/store.md.

It is fed by watch events, by the answers to the operator's own requests, and by complete LISTs. What it says may be a
moment old. So it decides that there is nothing to do, or that something is added; whatever takes something away asks
the API server first.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from modelyard_operator.kube.client import Kind, Manifest

_REMEMBERED = 10_000
"""Deletions, and writes of the operator, that are remembered."""

_Index = tuple[str, str]
"""The name of a label, or nothing for the trait, and the value."""


class Reader(Protocol):
    """The reading half of `KubeClient`."""

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest | None:
        """As `KubeClient.get`. The object belongs to the reader: nobody may change it."""

    async def list(self, kind: Kind, *, namespace: str | None = None, labels: str | None = None) -> Sequence[Manifest]:
        """As `KubeClient.list`. The objects belong to the reader: nobody may change them."""


@dataclass(frozen=True)
class Stored:
    """How a kind is kept."""

    selector: str | None = None
    """Of the kind's watch; None: all objects."""
    labels: tuple[str, ...] = ()
    """Labels by which its objects are looked up."""
    trait: Callable[[Manifest], str] | None = None
    """Something else by which they are; see `Store.having`."""

    def indexes(self, manifest: Manifest) -> Iterator[_Index]:
        """Under which entries of the index an object stands."""
        labelled = manifest["metadata"].get("labels") or {}
        yield from ((name, labelled[name]) for name in self.labels if name in labelled)
        if self.trait is not None:
            yield "", self.trait(manifest)


class _Id(NamedTuple):
    namespace: str
    name: str


@dataclass
class _Shelf:
    """The objects of a kind."""

    how: Stored
    objects: dict[_Id, Manifest] = field(default_factory=dict)
    index: dict[_Index, dict[_Id, Manifest]] = field(default_factory=dict)
    changed: dict[_Index, int] = field(default_factory=dict)
    """What `changes` was when something under an entry of the index changed last."""
    complete: bool = False
    changes: int = 0

    @cached_property
    def selector(self) -> frozenset[tuple[str, str | None]]:
        return parse_selector(self.how.selector)

    def put(self, identity: _Id, manifest: Manifest) -> None:
        self.take(identity)
        self.objects[identity] = manifest
        self.changes += 1
        for entry in self.how.indexes(manifest):
            self.index.setdefault(entry, {})[identity] = manifest
            self.changed[entry] = self.changes

    def take(self, identity: _Id) -> None:
        before = self.objects.pop(identity, None)
        if before is None:
            return
        self.changes += 1
        for entry in self.how.indexes(before):
            members = self.index[entry]
            del members[identity]
            self.changed[entry] = self.changes
            if not members:
                del self.index[entry], self.changed[entry]


class Store:
    """The objects of some kinds, the newest version of each that was heard of."""

    def __init__(self, kinds: Mapping[Kind, Stored]) -> None:
        self._shelves = {kind: _Shelf(how) for kind, how in kinds.items()}
        self._deleted: OrderedDict[str, int] = OrderedDict()
        """The resourceVersion at which objects were deleted, by uid."""
        self._own: OrderedDict[str, int] = OrderedDict()
        """The resourceVersion that the operator last wrote, by uid."""

    @property
    def kinds(self) -> Iterable[Kind]:
        return self._shelves.keys()

    def note(self, kind: Kind, manifest: Manifest) -> None:
        """An object as somebody just saw it; one that is older than what is known changes nothing."""
        shelf = self._shelves.get(kind)
        if shelf is None:
            return
        if not matches(manifest, shelf.selector):
            self.note_deleted(kind, manifest)
            return
        metadata = manifest["metadata"]
        version, identity = _version(manifest), _identity(manifest)
        if version <= self._deleted.get(metadata["uid"], -1):
            return
        known = shelf.objects.get(identity)
        if known is not None and version <= _version(known):
            return
        shelf.put(identity, manifest)

    def note_own(self, kind: Kind, manifest: Manifest) -> None:
        """As `note`, of what the operator itself has just written: its event will tell nothing new."""
        self.note(kind, manifest)
        if kind in self._shelves:
            self._own[manifest["metadata"]["uid"]] = _version(manifest)
            self._own.move_to_end(manifest["metadata"]["uid"])
            if len(self._own) > _REMEMBERED:
                self._own.popitem(last=False)

    def is_own(self, manifest: Mapping[str, Any]) -> bool:
        """Whether an object stands as the operator wrote it last."""
        metadata = manifest["metadata"]
        return self._own.get(metadata.get("uid", "")) == int(metadata.get("resourceVersion", -1))

    def note_deleted(self, kind: Kind, manifest: Manifest) -> None:
        """An object was deleted, or lost the labels that are watched, at the resourceVersion that it carries now."""
        shelf = self._shelves.get(kind)
        if shelf is None:
            return
        metadata = manifest["metadata"]
        self._deleted[metadata["uid"]] = _version(manifest)
        self._deleted.move_to_end(metadata["uid"])
        if len(self._deleted) > _REMEMBERED:
            self._deleted.popitem(last=False)
        identity = _identity(manifest)
        known = shelf.objects.get(identity)
        if known is None or known["metadata"]["uid"] != metadata["uid"] or _version(manifest) < _version(known):
            return
        shelf.take(identity)

    async def complete(self, kind: Kind, api: Reader) -> None:
        """Take a complete LIST of a kind; raises what the API server's client raises."""
        shelf = self._shelves[kind]
        before = {identity: _version(manifest) for identity, manifest in shelf.objects.items()}
        listed = await api.list(kind, labels=shelf.how.selector)
        for manifest in listed:
            self.note(kind, manifest)
        # What came or changed while the LIST was under way may be newer than it: the next LIST judges that.
        for identity in before.keys() - {_identity(manifest) for manifest in listed}:
            known = shelf.objects.get(identity)
            if known is not None and _version(known) == before[identity]:
                shelf.take(identity)
        shelf.complete = True

    def is_complete(self, kind: Kind) -> bool:
        """Whether a complete LIST of the kind was ever taken."""
        shelf = self._shelves.get(kind)
        return shelf is not None and shelf.complete

    def changes(self, *kinds: Kind) -> tuple[int, ...]:
        """Numbers that differ from earlier ones where something of these kinds has changed since."""
        return tuple(self._shelves[kind].changes for kind in kinds)

    def changed(self, kind: Kind, label: str, value: str) -> int:
        """As `changes`, among the objects with this label by which they are looked up; with none: with this trait."""
        return self._shelves[kind].changed.get((label, value), 0)

    def find(self, kind: Kind, name: str, namespace: str = "") -> Manifest | None:
        """The object as last seen."""
        return self._shelves[kind].objects.get(_Id(namespace, name))

    def having(self, kind: Kind, trait: str) -> Sequence[Manifest]:
        """The objects with this value of the kind's trait, as last seen."""
        members = self._shelves[kind].index.get(("", trait), {})
        return [members[identity] for identity in sorted(members)]

    def select(self, kind: Kind, namespace: str | None, labels: str | None) -> Sequence[Manifest] | None:
        """The objects that a LIST would give, as last seen; None where not all of them are kept."""
        shelf, terms = self._shelves.get(kind), parse_selector(labels)
        if shelf is None or not shelf.complete or not terms >= shelf.selector:
            return None
        candidates = shelf.objects
        for name, value in terms:
            if name in shelf.how.labels and value is not None:
                candidates = min(candidates, shelf.index.get((name, value), {}), key=len)
        return [
            candidates[identity]
            for identity in sorted(candidates)
            if (not namespace or identity.namespace == namespace) and matches(candidates[identity], terms)
        ]


def parse_selector(selector: str | None) -> frozenset[tuple[str, str | None]]:
    """The terms of a label selector by equality and presence, the only ones that the operator uses."""
    terms = set()
    for term in (selector or "").split(","):
        if any(sign in term for sign in "!() "):
            raise ValueError(f"no selector by equality or presence: {term!r}")
        name, equals, value = term.partition("=")
        if name:
            terms.add((name, value.removeprefix("=") if equals else None))
    return frozenset(terms)


def matches(manifest: Manifest, terms: frozenset[tuple[str, str | None]]) -> bool:
    """Whether an object has all the labels."""
    labels = manifest["metadata"].get("labels") or {}
    return all(name in labels and value in (None, labels[name]) for name, value in terms)


def _identity(manifest: Manifest) -> _Id:
    metadata = manifest["metadata"]
    return _Id(metadata.get("namespace", ""), metadata["name"])


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])
