"""Names, labels and hashes that several children share."""

import hashlib
import json
from typing import Any

FIELD_MANAGER = "modelyard-operator"

MANAGED_LABEL = "modelyard.dev/managed"
SERVICE_LABEL = "modelyard.dev/service"
REVISION_LABEL = "modelyard.dev/revision"
CLUSTER_LABEL = "modelyard.dev/serving-cluster"
CLUSTER_NAMESPACE_LABEL = "modelyard.dev/serving-cluster-namespace"
COMPONENT_LABEL = "modelyard.dev/component"
KIND_LABEL = "modelyard.dev/revision-of"
PHASE_ANNOTATION = "modelyard.dev/phase"
PROVED_ANNOTATION = "modelyard.dev/proved"
HELD_ANNOTATION = "modelyard.dev/held-to-replicas"
OUTLIVED_ANNOTATION = "modelyard.dev/outlived"

SERVE_PORT = 8000
METRICS_PORT = 8080
DASHBOARD_PORT = 8265
REDIS_PORT = 6379
REDIS_PASSWORD_KEY = "password"  # noqa: S105 - the name of a key


def digest(value: Any, length: int = 8) -> str:
    """The first hexadecimal digits of the SHA-256 of a JSON value's canonical text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def application_name(namespace: str, name: str, revision: str) -> str:
    """The Serve application of a revision; no part has a dot, so that it can be taken apart again."""
    return f"{namespace}.{name}.{revision}"


def parse_application_name(application: str) -> tuple[str, str, str] | None:
    """Namespace, name and revision, or None where the application is not one of ours."""
    parts = application.split(".")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def route_prefix(namespace: str, name: str, revision: str) -> str:
    """Where a revision answers on the Ray pods, for as long as it lives."""
    return f"/_r/{namespace}/{name}/{revision}"


def public_path(namespace: str, name: str) -> str:
    """Where a service answers at the gateway."""
    return f"/{namespace}/{name}"


def revision_object_name(name: str, revision: str) -> str:
    """The ControllerRevision of a revision."""
    return f"{name}-{revision}"


def redis_name(cluster: str) -> str:
    """All objects of the Redis that the operator runs for a ServingCluster."""
    return f"{cluster}-redis"


def redis_address(cluster: str) -> str:
    """Where that Redis answers in the ServingCluster's namespace."""
    return f"{redis_name(cluster)}:{REDIS_PORT}"


def backend_name(namespace: str, ray_cluster: str) -> str:
    """The gateway's backend for a RayCluster."""
    return f"{namespace}.{ray_cluster}"
