"""What is watched and kept in the store, and by what it is looked up."""

from collections.abc import Mapping
from typing import Any

from modelyard_operator.desired.names import CLUSTER_LABEL, MANAGED_LABEL, SERVICE_LABEL
from modelyard_operator.kube.client import (
    ACCELERATOR_POOL,
    CONTROLLER_REVISION,
    MODEL_SERVICE,
    POD,
    RAY_CLUSTER,
    SERVING_CLUSTER,
    Manifest,
)
from modelyard_operator.kube.store import Store, Stored
from modelyard_operator.reconcile.result import Key

MANAGED = f"{MANAGED_LABEL}=true"
CHILDREN = (CONTROLLER_REVISION, RAY_CLUSTER, POD)
"""Watched where they carry MANAGED_LABEL; the API server leaves out the others."""


def new_store(default_cluster: tuple[str, str] | None) -> Store:
    """An empty store of all that is watched. The trait of a ModelService is the ServingCluster that it is bound to."""

    def bound(service: Manifest) -> str:
        cluster = cluster_of(service, default_cluster)
        return str(cluster) if cluster else ""

    children = {kind: Stored(MANAGED, (SERVICE_LABEL, CLUSTER_LABEL)) for kind in CHILDREN}
    ours = {SERVING_CLUSTER: Stored(), ACCELERATOR_POOL: Stored()}
    return Store({MODEL_SERVICE: Stored(trait=bound), **ours, **children})


def cluster_of(service: Mapping[str, Any], default: tuple[str, str] | None) -> Key | None:
    """The ServingCluster that a ModelService names, or else the platform's default."""
    named = (service.get("spec") or {}).get("servingCluster")
    if named:
        return Key(named.get("namespace") or service["metadata"]["namespace"], named["name"])
    return Key(*default) if default else None
