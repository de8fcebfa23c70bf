"""The revisions of all services as this operator recorded them, whatever somebody else does to the objects.

While the operator holds the Lease nobody but it writes revisions. So what it wrote, or saw at its first look, is what
counts: a ControllerRevision that is deleted, relabelled or put into another phase by hand takes no model down. The loop
of its service puts it back.
"""

from dataclasses import dataclass

from modelyard_operator.desired.revision import Revision, from_manifest, to_manifest
from modelyard_operator.kube.client import CONTROLLER_REVISION, KubeClient, Manifest
from modelyard_operator.kube.errors import Conflict, KubeError
from modelyard_operator.reconcile.reading import Revisions
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.upkeep import Upkeep, contains


@dataclass(frozen=True)
class _Record:
    revision: Revision
    manifest: Manifest
    """What its ControllerRevision says."""


_Owner = tuple[Key, str]
"""A ModelService and its uid."""


class RevisionRecords:
    """Reads, writes and restores ControllerRevisions."""

    def __init__(self, kube: KubeClient, upkeep: Upkeep) -> None:
        self._kube = kube
        self._upkeep = upkeep
        self._known: dict[_Owner, dict[str, _Record]] = {}
        self.changes = 0
        """Differs from an earlier value where a record has changed since."""

    def of(self, service: Manifest, found: Revisions) -> tuple[Revision, ...]:
        """The revisions of `service` as they were recorded; as they were `found` before its loop has looked at them."""
        known = self._known.get(_owner(service))
        return found.of(service) if known is None else tuple(record.revision for record in known.values())

    def has_drifted(self, service: Manifest, found: Revisions) -> bool:
        """Whether somebody else did something to a revision of `service`, going by what was `found`."""
        known = self._known.get(_owner(service), {})
        return not all(_stands(record, found) for record in known.values())

    async def restore(self, service: Manifest, found: Revisions) -> tuple[Revision, ...]:
        """The revisions of `service`, put back where somebody else touched them; `found` was read just now."""
        known = self._known.setdefault(_owner(service), {})
        if not known:
            for revision in found.of(service):
                manifest = _as_found(found.manifests[revision.namespace, revision.object])
                known[revision.name] = _Record(revision, manifest)
                self.changes += 1
                self._upkeep.found_right(manifest)
        for name, record in list(known.items()):
            if not _stands(record, found) and not await self._put_back(record, service):
                del known[name]
                self.changes += 1
        return self.of(service, found)

    async def write(self, revision: Revision, service: Manifest) -> None:
        """Record `revision` as it is from now on."""
        owner, manifest = _owner(service), to_manifest(revision, service["metadata"]["uid"])
        try:
            standing = await self._upkeep.write(manifest)
        except KubeError:
            self._lose(owner)  # Whether it was written is not certain: the next look takes what it finds.
            raise
        self._known.setdefault(owner, {})[revision.name] = _Record(from_manifest(standing), manifest)
        self.changes += 1

    async def delete(self, revision: Revision, service: Manifest) -> None:
        """Delete a revision that is of no use any more."""
        owner = _owner(service)
        try:
            await self._upkeep.put_away(to_manifest(revision, service["metadata"]["uid"]))
        except KubeError:
            self._lose(owner)
            raise
        self._known.get(owner, {}).pop(revision.name, None)
        self.changes += 1

    def forget(self, service: Key) -> None:
        """The service is gone."""
        for owner in [owner for owner in self._known if owner[0] == service]:
            self._lose(owner)

    def _lose(self, owner: _Owner) -> None:
        self._known.pop(owner, None)
        self.changes += 1

    async def _put_back(self, record: _Record, service: Manifest) -> bool:
        """Write what was recorded; False where another release has written what this one cannot read."""
        namespace, name = record.revision.namespace, record.revision.object
        live = await self._kube.get(CONTROLLER_REVISION, name, namespace=namespace)
        data = (live or {}).get("data") or {}
        if live is not None and data.get("schema") != record.manifest["data"]["schema"]:
            return False
        if live is not None and not contains(data, record.manifest["data"]):
            # Data cannot be changed: somebody has made it again.
            await self._kube.delete(CONTROLLER_REVISION, name, namespace=namespace, uid=live["metadata"]["uid"])
            raise Conflict(f"ControllerRevision {namespace}/{name} had other data than it was made with: deleted")
        await self._upkeep.keep(record.manifest, live, owner=service)
        return True


def _owner(service: Manifest) -> _Owner:
    metadata = service["metadata"]
    return Key(metadata["namespace"], metadata["name"]), metadata["uid"]


def _stands(record: _Record, found: Revisions) -> bool:
    live = found.manifests.get((record.revision.namespace, record.revision.object))
    return live is not None and contains(live, record.manifest)


def _as_found(manifest: Manifest) -> Manifest:
    """A ControllerRevision as somebody may write it: of an earlier release it may say less, or more, than ours."""
    written = ("name", "namespace", "labels", "annotations", "ownerReferences")
    metadata = {field: value for field, value in manifest["metadata"].items() if field in written}
    return {field: manifest[field] for field in ("apiVersion", "kind", "data", "revision")} | {"metadata": metadata}
