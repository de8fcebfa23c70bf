"""The Redis that the operator runs for a ServingCluster: it keeps what a Ray head needs to replace a dead one.

Its claim and its password are made once and then left alone: without them what it has stored is lost.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from modelyard_operator.api.serving_cluster import RedisStorage, ServingCluster
from modelyard_operator.desired import pod_security
from modelyard_operator.desired.names import (
    CLUSTER_LABEL,
    CLUSTER_NAMESPACE_LABEL,
    COMPONENT_LABEL,
    MANAGED_LABEL,
    REDIS_PASSWORD_KEY,
    REDIS_PORT,
    redis_address,
    redis_name,
)
from modelyard_operator.desired.ray_cluster import owner_reference, ray_cluster_name
from modelyard_operator.desired.resolution import Platform

RENDERED_FOR_ANNOTATION = "modelyard.dev/rendered-for"
RENDERED_ANNOTATION = "modelyard.dev/rendered-spec"
_PASSWORD_ANNOTATION = "modelyard.dev/password"  # noqa: S105 - names the Secret's uid
_CONFIG_KEY = "auth.conf"
_CONFIG_FOLDER, _DATA_FOLDER = "/etc/redis-auth", "/data"


def wants_own_redis(cluster: ServingCluster) -> bool:
    """Whether the RayCluster that would be made today needs a Redis of the operator's."""
    return cluster.spec.high_availability and cluster.spec.redis.address is None


def uses_own_redis(cluster: str, ray_cluster: Mapping[str, Any]) -> bool:
    """Whether a RayCluster that stands needs it."""
    options = ray_cluster["spec"].get("gcsFaultToleranceOptions") or {}
    return bool(options.get("redisAddress") == redis_address(cluster))


def redis_claim(cluster: ServingCluster) -> dict[str, Any]:
    """The claim for its volume."""
    storage = cluster.spec.redis.storage or RedisStorage()
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {**_object(cluster, "v1", "PersistentVolumeClaim"), "spec": spec}


def redis_secret(cluster: ServingCluster, password: str) -> dict[str, Any]:
    """The Secret with its password, which is also a line of Redis's configuration, so that no argument shows it."""
    data = {REDIS_PASSWORD_KEY: password, _CONFIG_KEY: f"requirepass {password}\n"}
    return {**_object(cluster, "v1", "Secret"), "stringData": data}


def redis_service(cluster: ServingCluster) -> dict[str, Any]:
    """Where the Ray heads find it."""
    ports = [{"name": "redis", "port": REDIS_PORT, "targetPort": "redis"}]
    return {**_object(cluster, "v1", "Service"), "spec": {"selector": _selector(cluster), "ports": ports}}


def redis_disruption_budgets(
    cluster: ServingCluster, ray_clusters: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A drained node takes Redis or the head, and the other one only when the first is back.

    Each alone can be missed. A budget of Redis alone would either stop every drain for ever, or nothing.
    """
    if not any(uses_own_redis(cluster.metadata.name, each) for each in ray_clusters):
        return []
    expression = {"key": COMPONENT_LABEL, "operator": "In", "values": ["head", "redis"]}
    selector = {"matchLabels": {CLUSTER_LABEL: cluster.metadata.name}, "matchExpressions": [expression]}
    spec = {"minAvailable": 1, "selector": selector, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    return [{**_object(cluster, "policy/v1", "PodDisruptionBudget"), "spec": spec}]


def redis_stateful_set(
    cluster: ServingCluster, platform: Platform, live: Mapping[str, Any] | None, secret_uid: str
) -> dict[str, Any]:
    """Redis itself. As long as the user changes nothing it stays as it was rendered when it was made (`live`).

    Another Secret makes another pod: a Redis that goes on with the password of a lost one would let no new head in.
    """
    rendered_for = ray_cluster_name(cluster)
    kept = (live or {}).get("metadata", {}).get("annotations") or {}
    if kept.get(RENDERED_FOR_ANNOTATION) == rendered_for and RENDERED_ANNOTATION in kept:
        rendered = str(kept[RENDERED_ANNOTATION])
    else:
        rendered = json.dumps(_stateful_set_spec(cluster, platform), sort_keys=True)
    spec = json.loads(rendered)
    spec["template"]["metadata"]["annotations"] = {_PASSWORD_ANNOTATION: secret_uid}
    manifest = {**_object(cluster, "apps/v1", "StatefulSet"), "spec": spec}
    manifest["metadata"]["annotations"] = {RENDERED_FOR_ANNOTATION: rendered_for, RENDERED_ANNOTATION: rendered}
    return manifest


def is_of(cluster: ServingCluster, manifest: Mapping[str, Any]) -> bool:
    """Whether an object of the name of ours is ours, and not somebody else's or one that an earlier owner left."""
    owners = manifest["metadata"].get("ownerReferences") or []
    return any(owner["uid"] == cluster.metadata.uid for owner in owners)


def _object(cluster: ServingCluster, api_version: str, kind: str) -> dict[str, Any]:
    metadata = {
        "name": redis_name(cluster.metadata.name),
        "namespace": cluster.metadata.namespace,
        "labels": _labels(cluster),
        "ownerReferences": [owner_reference("ServingCluster", cluster.metadata.name, cluster.metadata.uid)],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _labels(cluster: ServingCluster) -> dict[str, str]:
    return {**_selector(cluster), MANAGED_LABEL: "true", CLUSTER_NAMESPACE_LABEL: cluster.metadata.namespace}


def _selector(cluster: ServingCluster) -> dict[str, str]:
    return {CLUSTER_LABEL: cluster.metadata.name, COMPONENT_LABEL: "redis"}


def _stateful_set_spec(cluster: ServingCluster, platform: Platform) -> dict[str, Any]:
    runtime = cluster.spec.runtime
    name = redis_name(cluster.metadata.name)
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security.POD,
        "containers": [_container(platform)],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": name}},
            {"name": "auth", "secret": {"secretName": name, "items": [{"key": _CONFIG_KEY, "path": _CONFIG_KEY}]}},
        ],
    }
    if runtime.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in runtime.image_pull_secrets]
    if runtime.priority_class_name:
        pod["priorityClassName"] = runtime.priority_class_name
    return {
        "replicas": 1,
        "serviceName": name,
        # A pod that never became ready is replaced by a corrected one without anybody's help.
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": _selector(cluster)},
        "template": {"metadata": {"labels": _labels(cluster)}, "spec": pod},
    }


def _container(platform: Platform) -> dict[str, Any]:
    answers = {"tcpSocket": {"port": "redis"}}
    return {
        "name": "redis",
        "image": platform.redis_image,
        "imagePullPolicy": platform.image_pull_policy,
        "command": ["redis-server", f"{_CONFIG_FOLDER}/{_CONFIG_KEY}"],
        # What was written a second before a crash may be lost; no snapshots beside the log of writes.
        "args": ["--dir", _DATA_FOLDER, "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "readinessProbe": {**answers, "periodSeconds": 2, "timeoutSeconds": 2},
        "livenessProbe": {**answers, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "securityContext": pod_security.CONTAINER,
        "volumeMounts": [
            {"name": "data", "mountPath": _DATA_FOLDER},
            {"name": "auth", "mountPath": _CONFIG_FOLDER, "readOnly": True},
        ],
    }
