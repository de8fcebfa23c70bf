"""Pod templates of Ray heads and workers: hardened alike, with the ServingCluster's runtime."""

from typing import Any

from modelyard_operator.api.quantity import parse_bytes
from modelyard_operator.api.serving_cluster import EnvVar, ModelCache, Runtime
from modelyard_operator.desired import pod_security
from modelyard_operator.desired.names import SERVE_PORT
from modelyard_serving.contract import CACHE_ROOT, LOG_FILE_ENV, MODELS_ROOT

LONGEST_REQUEST_S = 86_400
"""The upper bound of spec.requestTimeout: what must outlast any request is set to this and a margin."""

DEPARTURE_S = LONGEST_REQUEST_S + 3_600
"""How long an evicted worker may take: its replicas get another place within an hour, then end their requests."""

_TAKES_REQUESTS_S = 5
"""How long a replica that stops still takes requests, since those who send them hear of it late."""
LATE_REQUESTS_S = _TAKES_REQUESTS_S + 5
"""How much later than its stop the last request of a replica may begin, with a margin."""

DEFAULT_CACHE_SIZE = "20Gi"
"""Of a worker's own cache for models."""
_CACHE_VOLUME = "model-cache"

_CA_FOLDER = "/etc/modelyard/ca"
_CLUSTER_HOSTS = "localhost,127.0.0.1,.svc,.cluster.local"

SERVE_ENV = {
    # One HAProxy a node instead of a Python proxy: 4 to 6 times the requests per second (shared design, section 3).
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # A reloaded HAProxy keeps its streams until the longest request is over.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(LONGEST_REQUEST_S + 60),
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(LONGEST_REQUEST_S),
    # Ray's own default outlasts the oldest HAProxy, a day here: one that is replaced sends what kept connections bring
    # to ports that may be others' by then. Gateways keep no connection, and a prefix is no other revision's.
    "RAY_SERVE_PORT_QUARANTINE_S": "150",
    # How soon a request to a service at zero is noticed.
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_TAKES_REQUESTS_S),
    # Workers drain before they are told to end (`drained`); a head has nothing to drain, and another waits to start.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # Serve ends a HAProxy whose actor misses three checks, and with it what passes through. On a node whose CPUs are
    # all at work 5 and 10 s are missed by one that serves well; the gateways see by themselves when one is gone.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
    # What a replica says of itself has 111 kB. Ray's 100 kB send it through the object store, whose first try is lost
    # while the worker's raylet does not know a new head, and the next one comes after 10 s (docs/design/head.md).
    "RAY_max_direct_call_object_size": str(1024 * 1024),
    # See serving/etc/first-process.bash; where an image has no such file, bash goes on without.
    "BASH_ENV": "/venv/etc/modelyard/first-process.bash",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",
    "HF_HUB_OFFLINE": "1",
    # Ray sends its workers' standard output to files; this is the container's own.
    LOG_FILE_ENV: "/proc/1/fd/1",
    "HOME": "/tmp",  # noqa: S108 - in the pod
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
}

_READY = {
    # KubeRay's own first looks after 10 s: this is its probe, asked as soon as Ray may answer.
    "httpGet": {"path": "/api/healthz", "port": 52365},
    "initialDelaySeconds": 1,
    "periodSeconds": 2,
    "timeoutSeconds": 5,
    "failureThreshold": 25,
}


def ray_environment(runtime: Runtime) -> list[dict[str, Any]]:
    """The variables of a Ray container, each name once; what the operator needs wins."""
    env = [_env_var(variable) for variable in runtime.env]
    if runtime.proxy is not None:
        values = {"HTTP_PROXY": runtime.proxy.http_proxy, "HTTPS_PROXY": runtime.proxy.https_proxy}
        no_proxy = ",".join(part for part in (runtime.proxy.no_proxy, _CLUSTER_HOSTS) if part)
        for name, value in {**values, "NO_PROXY": no_proxy}.items():
            if value:
                env += [{"name": name, "value": value}, {"name": name.lower(), "value": value}]
    if runtime.ca_bundle is not None:
        bundle = f"{_CA_FOLDER}/{runtime.ca_bundle.key}"
        env += [{"name": name, "value": bundle} for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    env += [{"name": name, "value": value} for name, value in SERVE_ENV.items()]
    return list({variable["name"]: variable for variable in env}.values())


def pod_template(
    runtime: Runtime, container: dict[str, Any], *, labels: dict[str, str], placement: dict[str, Any]
) -> dict[str, Any]:
    """A hardened pod around one Ray container: non-root, read-only root, no capabilities, no API token.

    The container's own variables come after those of the runtime. `placement` adds to the pod's spec (nodeSelector,
    tolerations...).
    """
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108 - in the pod
    for volume in runtime.volumes:
        name = f"models-{volume.claim}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": volume.claim, "readOnly": True}})
        mounts.append({"name": name, "mountPath": f"{MODELS_ROOT}/{volume.claim}", "readOnly": True})  # type: ignore[dict-item]
    if runtime.ca_bundle is not None:
        volumes.append({"name": "ca-bundle", "configMap": {"name": runtime.ca_bundle.name}})
        mounts.append({"name": "ca-bundle", "mountPath": _CA_FOLDER, "readOnly": True})  # type: ignore[dict-item]
    spec: dict[str, Any] = {
        "securityContext": pod_security.POD,
        "containers": [
            {
                **container,
                "env": [*ray_environment(runtime), *container.get("env", ())],
                "volumeMounts": mounts,
                "readinessProbe": _READY,
                "securityContext": pod_security.CONTAINER,
            }
        ],
        "volumes": volumes,
        **placement,
    }
    if runtime.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in runtime.image_pull_secrets]
    if runtime.priority_class_name:
        spec["priorityClassName"] = runtime.priority_class_name
    return {"metadata": {"labels": labels}, "spec": spec}


def with_cache(template: dict[str, Any], cache: ModelCache) -> dict[str, Any]:
    """`template` of a worker whose models are downloaded."""
    source: dict[str, Any] = {"emptyDir": {"sizeLimit": cache.size or DEFAULT_CACHE_SIZE}}
    if cache.claim is not None:
        source = {"persistentVolumeClaim": {"claimName": cache.claim}}
    (container,) = template["spec"]["containers"]
    mount = {"name": _CACHE_VOLUME, "mountPath": CACHE_ROOT}
    spec = {
        **template["spec"],
        "containers": [{**container, "volumeMounts": [*container["volumeMounts"], mount]}],
        "volumes": [*template["spec"]["volumes"], {"name": _CACHE_VOLUME, **source}],
    }
    return {**template, "spec": spec}


def cache_limit(cache: ModelCache) -> int | None:
    """Most bytes that the cache may hold; None: what its volume has."""
    size = cache.size or (None if cache.claim is not None else DEFAULT_CACHE_SIZE)
    return parse_bytes(size) if size is not None else None


def drained(template: dict[str, Any]) -> dict[str, Any]:
    """`template` of a worker that leaves only when its replicas serve elsewhere and its requests have ended."""
    (container,) = template["spec"]["containers"]
    command = ["python", "-P", "-m", "modelyard_serving.departure", str(SERVE_PORT), str(DEPARTURE_S)]
    leaving = {**container, "lifecycle": {"preStop": {"exec": {"command": command}}}}
    # Beyond this Kubernetes kills, whatever runs.
    spec = {**template["spec"], "containers": [leaving], "terminationGracePeriodSeconds": DEPARTURE_S + 60}
    return {**template, "spec": spec}


def _env_var(variable: EnvVar) -> dict[str, Any]:
    if variable.secret_key_ref is not None:
        return {"name": variable.name, "valueFrom": {"secretKeyRef": variable.secret_key_ref.model_dump()}}
    return {"name": variable.name, "value": variable.value or ""}
