"""How many workers of a group may leave at once when nodes are drained: one."""

from collections.abc import Mapping
from typing import Any

from modelyard_operator.desired.names import CLUSTER_LABEL, CLUSTER_NAMESPACE_LABEL, MANAGED_LABEL


def disruption_budgets(ray_cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """PodDisruptionBudgets for the worker groups of a live RayCluster that want two workers or more.

    A group of one needs none: its worker leaves when its replicas serve elsewhere. Neither does the head, which runs
    no model; it shares one with its Redis (`redis_disruption_budgets`). The size is a number, written anew when Ray's
    autoscaler changes it: Kubernetes counts in percent or from above only the pods of its own controllers.
    """
    name = ray_cluster["metadata"]["name"]
    sizes = {g["groupName"]: g.get("replicas") or 0 for g in ray_cluster["spec"].get("workerGroupSpecs") or []}
    return [_budget(ray_cluster, f"{name}-{group}", group, size) for group, size in sizes.items() if size > 1]


def _budget(ray_cluster: Mapping[str, Any], name: str, group: str, size: int) -> dict[str, Any]:
    metadata = ray_cluster["metadata"]
    labels = {key: metadata["labels"][key] for key in (MANAGED_LABEL, CLUSTER_LABEL, CLUSTER_NAMESPACE_LABEL)}
    owner = {
        "apiVersion": ray_cluster["apiVersion"],
        "kind": ray_cluster["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {
            "minAvailable": size - 1,
            "selector": {"matchLabels": {"ray.io/cluster": metadata["name"], "ray.io/group": group}},
            # A worker that is not ready serves nobody: it never keeps a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
