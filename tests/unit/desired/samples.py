"""Specs, pools, clusters and revisions for tests, each valid and as short as it can be."""

from typing import Any

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.api.model_service import ModelService
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.ray_cluster import ray_cluster_name
from modelyard_operator.desired.resolution import Platform, Rejection, Resolved, resolve
from modelyard_operator.desired.revision import Phase, Revision, new_revision

PLATFORM = Platform(image="serving:1", ray_version="2.60.0", image_pull_policy="IfNotPresent", redis_image="redis:1")
URI = "pvc://models/smollm2"

SMALL = {"name": "small", "cpu": "1", "memory": "2Gi"}
LARGE = {"name": "large", "cpu": "4", "memory": "8Gi"}
GPU_POOL: dict[str, Any] = {
    "device": "cuda",
    "resourceName": "nvidia.com/gpu",
    "nodeSelector": {"gpu": "l4"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "shapes": [{"name": "1xl4", "cpu": "4", "memory": "16Gi", "accelerators": 1}],
}


def service_manifest(uri: str = URI, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": "smollm2", "namespace": "team-a", "uid": "uid-service", "generation": 1},
        "spec": {"model": {"source": {"uri": uri}, "task": "text-generation"}, **spec},
    }


def service(uri: str = URI, **spec: Any) -> ModelService:
    return ModelService.model_validate(service_manifest(uri, **spec))


def cluster_manifest(**runtime: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ServingCluster",
        "metadata": {"name": "shared", "namespace": "models", "uid": "uid-cluster", "generation": 1},
        "spec": {
            "allowedNamespaces": {"from": "All"},
            "runtime": {"volumes": [{"claim": "models"}], **runtime},
        },
    }


def cluster(**runtime: Any) -> ServingCluster:
    return ServingCluster.model_validate(cluster_manifest(**runtime))


def cluster_with_cache(**cache: Any) -> ServingCluster:
    manifest = cluster_manifest()
    return ServingCluster.model_validate({**manifest, "spec": {**manifest["spec"], "modelCache": cache}})


def pool_manifest(name: str = "cpu", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "AcceleratorPool",
        "metadata": {"name": name, "generation": 1},
        "spec": {"device": "cpu", "shapes": [LARGE, SMALL], **spec},
    }


def pool(name: str = "cpu", **spec: Any) -> AcceleratorPool:
    return AcceleratorPool.model_validate(pool_manifest(name, **spec))


def resolution(
    of: ModelService | None = None,
    *,
    on: ServingCluster | None = None,
    using: AcceleratorPool | None = None,
    platform: Platform = PLATFORM,
) -> Resolved | Rejection:
    shared = on or cluster()
    return resolve(of or service(), shared, using or pool(), ray_cluster_name(shared), platform)


def resolved(
    of: ModelService | None = None,
    *,
    on: ServingCluster | None = None,
    using: AcceleratorPool | None = None,
    platform: Platform = PLATFORM,
) -> Resolved:
    found = resolution(of, on=on, using=using, platform=platform)
    assert isinstance(found, Resolved), found
    return found


def revision(phase: Phase = Phase.ACTIVE, number: int = 1, of: ModelService | None = None) -> Revision:
    return new_revision(resolved(of), number).at(phase)
