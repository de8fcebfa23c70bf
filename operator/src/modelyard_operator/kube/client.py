"""What the operator asks of a Kubernetes API server."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Manifest = dict[str, Any]
"""A Kubernetes object as plain data."""


@dataclass(frozen=True)
class Kind:
    """A kind of object and how to address it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True


MODEL_SERVICE = Kind("modelyard.dev/v1alpha1", "ModelService", "modelservices")
SERVING_CLUSTER = Kind("modelyard.dev/v1alpha1", "ServingCluster", "servingclusters")
ACCELERATOR_POOL = Kind("modelyard.dev/v1alpha1", "AcceleratorPool", "acceleratorpools", namespaced=False)
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
RAY_CLUSTER = Kind("ray.io/v1", "RayCluster", "rayclusters")
POD = Kind("v1", "Pod", "pods")
NODE = Kind("v1", "Node", "nodes", namespaced=False)
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
RESOURCE_QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = Kind("v1", "LimitRange", "limitranges")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
SERVICE = Kind("v1", "Service", "services")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
EVENT = Kind("v1", "Event", "events")
CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)

KINDS = (
    MODEL_SERVICE,
    SERVING_CLUSTER,
    ACCELERATOR_POOL,
    CONTROLLER_REVISION,
    RAY_CLUSTER,
    POD,
    NODE,
    SECRET,
    CONFIG_MAP,
    RESOURCE_QUOTA,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    STATEFUL_SET,
    SERVICE,
    CLAIM,
    DISRUPTION_BUDGET,
    EVENT,
    LEASE,
    CRD,
)
_KIND_BY_NAME = {(kind.api_version, kind.kind): kind for kind in KINDS}


def kind_of(manifest: Manifest) -> Kind:
    """The kind that a manifest says it is; KeyError for one that the operator has no dealings with."""
    return _KIND_BY_NAME[manifest["apiVersion"], manifest["kind"]]


class KubeClient(Protocol):
    """Reads, server-side apply and deletion; every method raises `kube.errors.KubeError` subclasses."""

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest | None:
        """The object, or None where there is none."""

    async def list(self, kind: Kind, *, namespace: str | None = None, labels: str | None = None) -> Sequence[Manifest]:
        """Every object that matches, all pages of one consistent LIST, or an error: never a part.

        Namespace None lists all namespaces. Items carry apiVersion and kind.
        """

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply by the operator's field manager, with force; gives what the server then holds.

        A manifest with metadata.resourceVersion is refused with `Conflict` when the object has moved on.
        """

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the status; `manifest` carries apiVersion, kind, name and status only."""

    async def delete(self, kind: Kind, name: str, *, namespace: str | None = None, uid: str | None = None) -> bool:
        """Delete in the background; False where there was none, or only another than `uid`."""

    async def set_finalizers(self, manifest: Manifest, finalizers: Sequence[str]) -> None:
        """Replace the finalizers of `manifest` as it was read; `Conflict` when it has moved on."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Create what is never applied again; `AlreadyExists` where the name is taken."""
