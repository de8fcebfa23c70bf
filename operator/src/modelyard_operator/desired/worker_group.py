"""A worker group of a RayCluster: pods of one pool, shape and image, with one replica each unless the shape shares."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from modelyard_operator.api.quantity import parse_quantity
from modelyard_operator.desired.names import (
    CLUSTER_LABEL,
    CLUSTER_NAMESPACE_LABEL,
    MANAGED_LABEL,
    SERVE_PORT,
    digest,
)
from modelyard_operator.desired.ray_pods import drained, pod_template, with_cache
from modelyard_operator.desired.resolution import Resolved

_OBJECT_STORE_BYTES = 128 * 1024**2
"""Ray's object store carries no tensors here: requests go over HTTP, weights come from files."""

_WITHOUT_HEAD_S = 86_400
"""How long a worker serves on without a head, which its state in Redis brings back; KubeRay would say 600."""


_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""On pods, not on the RayCluster, which Kueue would suspend as a whole when a group is added (design/kueue.md)."""


def worker_group(resolved: Resolved) -> dict[str, Any]:
    """The group that runs `resolved`, without its limits of size.

    Its name carries a hash of all the rest, so that whatever differs is another group: a group in use never changes.
    """
    group, replicas = _group(resolved), resolved.shape.replicas_per_worker
    hashed = group if replicas == 1 else {**group, "replicasPerWorker": replicas}
    name = f"{resolved.pool.metadata.name[:20]}-{resolved.shape.name[:12]}-{digest(hashed, 6)}"
    group["rayStartParams"]["resources"] = json.dumps(json.dumps({group_resource(name): replicas}))
    return {"groupName": name, **group}


def group_resource(group_name: str) -> str:
    """The Ray resource that places replicas in a group: a worker has one for each replica that it takes."""
    return f"group-{group_name}"


def replicas_per_worker(group: Mapping[str, Any]) -> int:
    """How many replicas share a worker of a rendered group."""
    return _resources(group["rayStartParams"]["resources"])[group_resource(group["groupName"])]


@lru_cache
def _resources(text: str) -> Mapping[str, int]:
    """Ray's resources of a worker, from the text in a group: at each look the same few for all services."""
    resources: dict[str, int] = json.loads(json.loads(text))
    return resources


def sized(group: dict[str, Any], max_workers: int) -> dict[str, Any]:
    """`group` with the limits within which Ray's autoscaler moves."""
    return {**group, "minReplicas": 0, "maxReplicas": max_workers, "replicas": 0}


def _group(resolved: Resolved) -> dict[str, Any]:
    pool, shape = resolved.pool.spec, resolved.shape
    requests: dict[str, Any] = {"cpu": shape.cpu, "memory": shape.memory}
    limits: dict[str, Any] = {"memory": shape.memory}
    if pool.resource_name and shape.accelerators:
        limits[pool.resource_name] = requests[pool.resource_name] = str(shape.accelerators)
    placement: dict[str, Any] = {"automountServiceAccountToken": False}
    if pool.node_selector:
        placement["nodeSelector"] = dict(pool.node_selector)
    if pool.tolerations:
        placement["tolerations"] = [
            t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in pool.tolerations
        ]
    if resolved.runtime.service_account_name:
        placement["serviceAccountName"] = resolved.runtime.service_account_name
    container: dict[str, Any] = {
        "name": "ray-worker",
        "image": resolved.image,
        "imagePullPolicy": resolved.image_pull_policy,
        "resources": {"requests": requests, "limits": limits},
        "ports": [{"name": "serve", "containerPort": SERVE_PORT}, {"name": "metrics", "containerPort": 8080}],
    }
    if resolved.outlives_head:
        container["env"] = [{"name": "RAY_gcs_rpc_server_reconnect_timeout_s", "value": str(_WITHOUT_HEAD_S)}]
    labels = {
        MANAGED_LABEL: "true",
        CLUSTER_LABEL: resolved.cluster_name,
        CLUSTER_NAMESPACE_LABEL: resolved.cluster_namespace,
    }
    if resolved.queue_name is not None:
        labels[_QUEUE_LABEL] = resolved.queue_name
    ray_start: dict[str, str] = {
        "num-cpus": str(max(1, int(parse_quantity(shape.cpu)))),
        "object-store-memory": str(_OBJECT_STORE_BYTES),
        # It would send replicas' output to a driver that is not there. 0, for KubeRay leaves out what is "false".
        "include-log-monitor": "0",
    }
    if shape.accelerators:
        ray_start["num-gpus"] = str(shape.accelerators)
    template = pod_template(resolved.runtime, container, labels=labels, placement=placement)
    if resolved.cache is not None:
        template = with_cache(template, resolved.cache)
    return {"rayStartParams": ray_start, "template": drained(template)}
