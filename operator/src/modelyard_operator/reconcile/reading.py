"""Read the API group's objects as models, and the children that belong to them."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import ValidationError

from modelyard_operator.api.base import StatusModel, explain
from modelyard_operator.api.model_service import ModelService
from modelyard_operator.desired.names import MANAGED_LABEL, SERVICE_LABEL
from modelyard_operator.desired.resolution import cluster_key
from modelyard_operator.desired.revision import Revision, from_manifest
from modelyard_operator.kube.client import CONTROLLER_REVISION, MODEL_SERVICE, KubeClient, Manifest
from modelyard_operator.reconcile.result import Key

Model = TypeVar("Model", bound=StatusModel)


class InvalidSpec(Exception):
    """A spec that this operator cannot read: written by another version, or before a rule was there."""


def parse(model: type[Model], manifest: Manifest) -> Model:
    """The object as a model. Raises InvalidSpec with the fields that are wrong."""
    try:
        return model.model_validate(manifest)
    except ValidationError as error:
        raise InvalidSpec(explain(error)) from error


async def services_of(kube: KubeClient, cluster: Key | None, default: tuple[str, str] | None) -> list[ModelService]:
    """All readable ModelServices, or those bound to `cluster`, from one complete LIST."""
    services = []
    for manifest in await kube.list(MODEL_SERVICE):
        try:
            service = parse(ModelService, manifest)
        except InvalidSpec:
            continue
        if cluster is None or cluster_key(service, default) == cluster:
            services.append(service)
    return services


async def revisions_of(
    kube: KubeClient, *, namespace: str | None = None, service: str | None = None
) -> dict[tuple[Key, str], list[Revision]]:
    """Revisions by their service and its uid, from one complete LIST.

    The uid keeps apart what a deleted service of the same name left for the garbage collector.
    """
    labels = f"{MANAGED_LABEL}=true" + (f",{SERVICE_LABEL}={service}" if service else "")
    found: dict[tuple[Key, str], list[Revision]] = {}
    for manifest in await kube.list(CONTROLLER_REVISION, namespace=namespace, labels=labels):
        if manifest["metadata"].get("deletionTimestamp"):
            continue
        revision = from_manifest(manifest)
        owner = Key(revision.namespace, revision.service), _owner_uid(manifest)
        found.setdefault(owner, []).append(revision)
    return found


def _owner_uid(manifest: Manifest) -> str:
    owners: Iterable[Manifest] = manifest["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")
