"""Whether the cluster's KubeRay can do what we need, read from its CRD; and where a RayCluster stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard_operator.api.conditions import Reason
from modelyard_operator.observed.failures import Failure

NEEDED = "KubeRay 1.6 or later"


def kuberay_trouble(crd: Mapping[str, Any] | None) -> Failure | None:
    """What is wrong with the CRD `rayclusters.ray.io`, or None where all is well.

    The CRD carries no version, so the fields that we need are looked for: token authentication (1.5) and the
    idle timeout of a worker group (1.6).
    """
    if crd is None:
        return Failure(
            Reason.KUBERAY_ABSENT,
            f"KubeRay is not installed: there is no CRD rayclusters.ray.io. Install {NEEDED}; "
            "Modelyard goes on by itself.",
        )
    for version in crd["spec"]["versions"]:
        if version["name"] == "v1" and version.get("served"):
            fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
            groups = fields.get("workerGroupSpecs", {}).get("items", {}).get("properties", {})
            if "authOptions" in fields and "idleTimeoutSeconds" in groups:
                return None
    return Failure(
        Reason.KUBERAY_UNSUPPORTED,
        f"The installed KubeRay is too old: its RayCluster lacks spec.authOptions. Upgrade to {NEEDED}, "
        "its CRDs included.",
    )


@dataclass(frozen=True)
class RayClusterFacts:
    """A RayCluster."""

    name: str
    ray_version: str
    seen_by_kuberay: bool
    was_ready: bool
    """Whether it has ever been up: KubeRay sets RayClusterProvisioned once and never takes it back."""
    head_ready: bool
    head_address: str
    ready_since: datetime | None = None
    """When it was up for the first time: a head that was made later takes the place of another one."""
    redis: str = ""
    """Where the head keeps its state, so that the workers serve on while it is replaced; empty: nowhere."""


def parse_ray_cluster(manifest: Mapping[str, Any]) -> RayClusterFacts:
    """Facts of a RayCluster (kuberay ray-operator/apis/ray/v1/raycluster_types.go)."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    told = {c["type"]: c for c in status.get("conditions") or []}
    conditions = {kind: c.get("status") for kind, c in told.items()}
    since = told.get("RayClusterProvisioned", {}).get("lastTransitionTime")
    return RayClusterFacts(
        name=metadata["name"],
        ray_version=manifest["spec"].get("rayVersion", ""),
        seen_by_kuberay=bool(status),
        was_ready=conditions.get("RayClusterProvisioned") == "True",
        head_ready=conditions.get("HeadPodReady") == "True",
        head_address=(status.get("head") or {}).get("podIP", ""),
        ready_since=datetime.fromisoformat(since) if since else None,
        redis=(manifest["spec"].get("gcsFaultToleranceOptions") or {}).get("redisAddress", ""),
    )
