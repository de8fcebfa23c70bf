"""Read the API group's objects as models, and the children that belong to them."""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from pydantic import ValidationError

from modelyard_operator.api.base import StatusModel, explain, unknown_fields
from modelyard_operator.api.model_service import ModelService
from modelyard_operator.desired.names import CLUSTER_LABEL, CLUSTER_NAMESPACE_LABEL, MANAGED_LABEL, SERVICE_LABEL
from modelyard_operator.desired.revision import Revision, from_manifest
from modelyard_operator.kube.client import CONTROLLER_REVISION, MODEL_SERVICE, Manifest
from modelyard_operator.kube.store import Reader
from modelyard_operator.reconcile.result import Key

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=StatusModel)

_PARSED = 20_000
_parsed: OrderedDict[tuple[type[StatusModel], str | None], tuple[Manifest, StatusModel]] = OrderedDict()
"""Of each object the manifest that was parsed last, and what came of it: the store gives the same one again."""


class Unconfirmed(Exception):
    """What was seen so far calls for a step that must be decided by what the API server says now."""


class InvalidSpec(Exception):
    """A spec that this operator cannot read: written by another version, or before a rule was there."""


def parse(model: type[Model], manifest: Manifest) -> Model:
    """The object as a model. Raises InvalidSpec with the fields that are wrong."""
    at = model, manifest["metadata"].get("uid")
    known = _parsed.get(at)
    if known is not None and known[0] is manifest:
        return cast("Model", known[1])
    try:
        read = model.model_validate(manifest)
    except ValidationError as error:
        raise InvalidSpec(explain(error) + _of_which_release(error)) from error
    _parsed[at] = manifest, read
    _parsed.move_to_end(at)
    if len(_parsed) > _PARSED:
        _parsed.popitem(last=False)
    return read


def _of_which_release(error: ValidationError) -> str:
    """The API server keeps no field that its CRD lacks: one that is unknown here comes with another release's CRDs."""
    unknown = unknown_fields(error)
    if not unknown:
        return ""
    return (
        f". This operator does not know {', '.join(unknown)}, which the CRDs had when it was written: they are newer "
        "than the operator. Upgrade the operator to their release, or take the field out"
    )


async def services_of(kube: Reader) -> list[ModelService]:
    """All readable ModelServices, from one complete LIST."""
    services = []
    for manifest in await kube.list(MODEL_SERVICE):
        try:
            services.append(parse(ModelService, manifest))
        except InvalidSpec:
            continue
    return services


@dataclass(frozen=True)
class Revisions:
    """Revisions from one complete LIST."""

    by_owner: Mapping[tuple[Key, str], Sequence[Revision]]
    unread: frozenset[Key]
    """ServingClusters with revisions that this operator cannot read: a newer one may have written them."""
    manifests: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)
    """The ControllerRevisions that could be read, by namespace and name."""

    def of(self, service: Manifest) -> tuple[Revision, ...]:
        """Those of a ModelService. Its uid keeps apart what a deleted one of the same name left."""
        metadata = service["metadata"]
        return tuple(self.by_owner.get((Key(metadata["namespace"], metadata["name"]), metadata["uid"]), ()))


async def revisions_of(
    kube: Reader, *, namespace: str | None = None, service: str | None = None, cluster: Key | None = None
) -> Revisions:
    """All revisions, those of one service, or those on one ServingCluster."""
    # The revisions that Kubernetes keeps of Redis's StatefulSet have all our labels but that of a service.
    labels = f"{MANAGED_LABEL}=true,{SERVICE_LABEL}" + (f"={service}" if service else "")
    if cluster is not None:
        labels += f",{CLUSTER_LABEL}={cluster.name},{CLUSTER_NAMESPACE_LABEL}={cluster.namespace}"
    found: dict[tuple[Key, str], list[Revision]] = {}
    manifests: dict[tuple[str, str], Manifest] = {}
    unread = set()
    for manifest in await kube.list(CONTROLLER_REVISION, namespace=namespace, labels=labels):
        metadata = manifest["metadata"]
        if metadata.get("deletionTimestamp"):
            continue
        try:
            revision = from_manifest(manifest)
        except ValueError as error:
            log.warning("ControllerRevision %s/%s is left alone: %s", metadata["namespace"], metadata["name"], error)
            labelled = metadata.get("labels", {})
            unread.add(Key(labelled.get(CLUSTER_NAMESPACE_LABEL, ""), labelled.get(CLUSTER_LABEL, "")))
            continue
        manifests[metadata["namespace"], metadata["name"]] = manifest
        found.setdefault((Key(revision.namespace, revision.service), _owner_uid(manifest)), []).append(revision)
    return Revisions(found, frozenset(unread), manifests)


def _owner_uid(manifest: Manifest) -> str:
    owners: Iterable[Manifest] = manifest["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")
