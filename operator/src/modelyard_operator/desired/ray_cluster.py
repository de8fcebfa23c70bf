"""The RayCluster of a ServingCluster: a head that runs no model, and the worker groups that its revisions need."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired import pod_security
from modelyard_operator.desired.names import (
    CLUSTER_LABEL,
    CLUSTER_NAMESPACE_LABEL,
    COMPONENT_LABEL,
    DASHBOARD_PORT,
    MANAGED_LABEL,
    REDIS_PASSWORD_KEY,
    SERVE_PORT,
    digest,
    redis_address,
    redis_name,
)
from modelyard_operator.desired.ray_pods import pod_template
from modelyard_operator.desired.resolution import Platform

_SCALED_BY_RAY = ("replicas", "scaleStrategy")
"""Fields of a worker group that Ray's autoscaler writes: we carry over what stands there."""

_OF_KUBERAY = ("REDIS_USERNAME", "REDIS_PASSWORD")
"""Variables that KubeRay gives a head with Redis; it takes no RayCluster whose head has them already."""

_SURVIVING_HEAD = [
    # A head waits ten minutes for Redis to come up, not one. One that loses Redis should end at once, as it does by
    # itself: with more retries Ray 2.60 never connects again (docs/design/head.md).
    {"name": "RAY_redis_db_connect_retries", "value": "1200"},
    {"name": "RAY_redis_db_connect_wait_milliseconds", "value": "500"},
]

_HEAD_GRACE_S = 5
"""How long a head may take to end. It needs 2 to 3; but its autoscaler is the first process of its container, without
a handler for SIGTERM, so each head takes all that it may: by default 30 s, in which no other one starts."""

_FIRST_RAY = "2.60.0"
"""The Ray of the first release: where it is still the platform's, no version is in a RayCluster's name."""


def ray_cluster_name(cluster: ServingCluster) -> str:
    """The RayCluster that the user asks for: another head or Ray is another RayCluster beside this one.

    Only what the user wrote counts, so that a new release of the operator moves nothing. Claims and the
    cache of models are no concern of the head's: they make other worker groups, not another RayCluster. Nor are who may
    use it and the volume of Redis.
    """
    written = cluster.spec.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude_defaults=True,
        exclude={"runtime": {"volumes"}, "model_cache": True, "allowed_namespaces": True, "redis": {"storage"}},
    )
    if not written.get("redis"):
        written.pop("redis", None)
    return f"{cluster.metadata.name}-{digest(written, 6)}"


def newest_ray_cluster(cluster: ServingCluster, platform: Platform) -> str:
    """The RayCluster for new revisions: beside the one that stands where the platform's own Ray has changed since.

    Workers of another Ray cannot join a head. What runs stays where it is: see `is_as_asked`.
    """
    name, version = ray_cluster_name(cluster), platform.ray_version
    if cluster.spec.runtime.ray_version is not None or version == _FIRST_RAY:
        return name
    return f"{name}-{digest(version, 4)}"


def is_as_asked(name: str, cluster: ServingCluster) -> bool:
    """Whether a RayCluster is what the user asks for, whichever Ray was the platform's when it was made."""
    asked = ray_cluster_name(cluster)
    return name == asked or re.fullmatch(f"{asked}-[0-9a-f]{{4}}", name) is not None


def ray_cluster(cluster: ServingCluster, platform: Platform) -> dict[str, Any]:
    """The newest RayCluster of `cluster`, without worker groups."""
    name = newest_ray_cluster(cluster, platform)
    runtime = cluster.spec.runtime.model_copy(update={"volumes": ()})
    image = runtime.image or platform.image
    labels = {
        MANAGED_LABEL: "true",
        CLUSTER_LABEL: cluster.metadata.name,
        CLUSTER_NAMESPACE_LABEL: cluster.metadata.namespace,
    }
    head_labels = labels
    head: dict[str, Any] = {
        "name": "ray-head",
        "image": image,
        "imagePullPolicy": platform.image_pull_policy,
        "resources": {
            "requests": {"cpu": cluster.spec.head.cpu, "memory": cluster.spec.head.memory},
            "limits": {"memory": cluster.spec.head.memory},
        },
        "ports": [
            {"name": "gcs", "containerPort": 6379},
            {"name": "dashboard", "containerPort": DASHBOARD_PORT},
            {"name": "serve", "containerPort": SERVE_PORT},
            {"name": "metrics", "containerPort": 8080},
        ],
    }
    if cluster.spec.high_availability:
        head["env"] = _SURVIVING_HEAD
        head_labels = {**labels, COMPONENT_LABEL: "head"}
        env = tuple(variable for variable in runtime.env if variable.name not in _OF_KUBERAY)
        runtime = runtime.model_copy(update={"env": env})
    manifest: dict[str, Any] = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": name,
            "namespace": cluster.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference("ServingCluster", cluster.metadata.name, cluster.metadata.uid)],
        },
        "spec": {
            "rayVersion": runtime.ray_version or platform.ray_version,
            "authOptions": {"mode": "token"},
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "version": "v2",
                "idleTimeoutSeconds": 60,
                "imagePullPolicy": platform.image_pull_policy,
                "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
                "securityContext": pod_security.CONTAINER,
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - in the pod
                "env": [
                    {"name": "HOME", "value": "/tmp"},  # noqa: S108 - in the pod
                    # Ray's own 5 s are a part of every cold start; each look costs two reads of the API server.
                    {"name": "AUTOSCALER_UPDATE_INTERVAL_S", "value": "2"},
                ],
            },
            "headGroupSpec": {
                "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0", "include-log-monitor": "0"},
                "template": pod_template(
                    runtime, head, labels=head_labels, placement={"terminationGracePeriodSeconds": _HEAD_GRACE_S}
                ),
            },
        },
    }
    if cluster.spec.high_availability:
        manifest["spec"]["gcsFaultToleranceOptions"] = _fault_tolerance(cluster)
    return manifest


def _fault_tolerance(cluster: ServingCluster) -> dict[str, Any]:
    """Where the head keeps its state: under the RayCluster's uid, which KubeRay puts in where no name is given."""
    redis, own = cluster.spec.redis, cluster.spec.redis.address is None
    password = redis.password_secret.model_dump() if redis.password_secret else None
    if own:
        password = {"name": redis_name(cluster.metadata.name), "key": REDIS_PASSWORD_KEY}
    options: dict[str, Any] = {"redisAddress": redis_address(cluster.metadata.name) if own else redis.address}
    if redis.username:
        options["redisUsername"] = {"value": redis.username}
    if password:
        options["redisPassword"] = {"valueFrom": {"secretKeyRef": password}}
    return options


def owner_reference(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Of a controller in our API group: the child goes when its owner goes."""
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def with_groups(
    base: Mapping[str, Any],
    live: Mapping[str, Any] | None,
    groups: Iterable[Mapping[str, Any]],
    left: Mapping[str, Collection[str]],
) -> dict[str, Any]:
    """`base` with the worker groups that are wanted, and those of `live` that still have pods.

    `left` has the groups with pods, and of each the names of the pods that never started: Ray's autoscaler waits for
    them without end, so where nobody wants the group any more KubeRay is told to take them away. Groups keep their
    order and what the autoscaler wrote into them; new ones come last.
    """
    wanted = {group["groupName"]: dict(group) for group in groups}
    standing = {group["groupName"]: group for group in (live or {}).get("spec", {}).get("workerGroupSpecs") or []}
    merged: list[dict[str, Any]] = []
    for name, old in standing.items():
        if name in wanted:
            scaled = {field: old[field] for field in _SCALED_BY_RAY if field in old}
            merged.append({**wanted.pop(name), **scaled})
        elif name in left:
            merged.append(_without(old, left[name]))
    merged += [wanted[name] for name in sorted(wanted)]
    return {**base, "spec": {**base["spec"], "workerGroupSpecs": merged}}


def without_sizes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A RayCluster without what Ray's autoscaler writes: what is left is the operator's alone."""
    groups = [
        {field: value for field, value in group.items() if field not in _SCALED_BY_RAY}
        for group in manifest["spec"]["workerGroupSpecs"]
    ]
    return {**manifest, "metadata": {**manifest["metadata"]}, "spec": {**manifest["spec"], "workerGroupSpecs": groups}}


def _without(group: Mapping[str, Any], pods: Collection[str]) -> dict[str, Any]:
    """`group` with `pods` put down for deletion, and as many fewer to be there."""
    asked = (group.get("scaleStrategy") or {}).get("workersToDelete") or []
    new = sorted(set(pods) - set(asked))
    if not new:
        return dict(group)
    strategy = {**(group.get("scaleStrategy") or {}), "workersToDelete": [*asked, *new]}
    return {**group, "replicas": max(0, group.get("replicas", 0) - len(new)), "scaleStrategy": strategy}
