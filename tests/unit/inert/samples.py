"""What users and platform teams wrote: together the samples set every field of the three kinds (a test checks)."""

from typing import Any

Manifest = dict[str, Any]


def _object(kind: str, name: str, namespace: str | None, **spec: Any) -> Manifest:
    metadata = {"name": name, "uid": f"uid-{kind}-{name}", **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "modelyard.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _service(name: str, namespace: str = "team-a", uri: str = "pvc://models/smollm2", **spec: Any) -> Manifest:
    source = {"source": {"uri": uri}}
    return _object("ModelService", name, namespace, **{"model": source, **spec})


_LABELLED = {
    "from": "Selector",
    "selector": {
        "matchLabels": {"models": "own"},
        "matchExpressions": [{"key": "frozen", "operator": "NotIn", "values": ["true"]}],
    },
}
NAMESPACES = tuple(
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"models": "own"}}}
    for name in ("team-b", "team-c")
)

POOLS = (
    _object(
        "AcceleratorPool",
        "cpu",
        None,
        device="cpu",
        shapes=[{"name": "small", "cpu": "500m", "memory": "2Gi"}, {"name": "large", "cpu": 4, "memory": "8Gi"}],
    ),
    _object(
        "AcceleratorPool",
        "l4",
        None,
        device="cuda",
        resourceName="nvidia.com/gpu",
        nodeSelector={"cloud.example.com/gpu": "l4"},
        allowedNamespaces=_LABELLED,
        tolerations=[
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "team", "operator": "Equal", "value": "a"},
        ],
        maxWorkers=4,
        limits={"maxWorkers": 4, "maxWorkersPerNamespace": 4, "namespaces": [{"name": "team-b", "maxWorkers": 4}]},
        shapes=[
            {"name": "1xl4", "cpu": "4", "memory": "16Gi", "accelerators": 1},
            {"name": "2xl4", "cpu": "8", "memory": "32Gi", "accelerators": 2, "replicasPerWorker": 4},
        ],
    ),
)

CLUSTERS = (
    _object("ServingCluster", "shared", "models", runtime={"volumes": [{"claim": "models"}]}),
    _object(
        "ServingCluster",
        "own",
        "team-b",
        head={"cpu": "1", "memory": "8Gi"},
        queueName="team-b",
        tokenGeneration=2,
        modelCache={"size": "50Gi", "claim": "cache"},
        allowedNamespaces=_LABELLED,
        runtime={
            "image": "registry.example.com/serving:7",
            "rayVersion": "2.60.0",
            "imagePullSecrets": ["registry"],
            "serviceAccountName": "ray",
            "priorityClassName": "high",
            "env": [{"name": "TZ", "value": "UTC"}, {"name": "TOKEN", "secretKeyRef": {"name": "hub", "key": "token"}}],
            "caBundle": {"name": "corporate", "key": "bundle.pem"},
            "proxy": {
                "httpProxy": "http://proxy.example.com:3128",
                "httpsProxy": "http://proxy.example.com:3128",
                "noProxy": "example.com",
            },
            "volumes": [{"claim": "models"}, {"claim": "more"}],
        },
    ),
    # One for each way of keeping the state of the head.
    _object("ServingCluster", "throwaway", "team-b", highAvailability=False),
    _object(
        "ServingCluster",
        "with-volume",
        "team-b",
        highAvailability=True,
        redis={"storage": {"size": "2Gi", "storageClassName": "fast"}},
    ),
    _object(
        "ServingCluster",
        "with-redis",
        "team-b",
        redis={
            "address": "redis.databases.svc:6379",
            "username": "ray",
            "passwordSecret": {"name": "redis", "key": "password"},
        },
    ),
)

SERVICES = (
    _service("plain"),
    _service(
        "fixed",
        replicas=3,
        resources={"cpu": "1", "memory": "4Gi"},
        requestTimeout="10m",
        rollout={"onNoHeadroom": "Replace"},
    ),
    _service("autoscaled", autoscaling={"maxReplicas": 4, "upscaleDelay": "2m"}),
    _service(
        "to-zero",
        model={"source": {"uri": "pvc://models/org/other.v2"}, "task": "text-generation"},
        autoscaling={
            "minReplicas": 0,
            "maxReplicas": 2,
            "targetOngoingRequests": 2,
            "upscaleDelay": "1s",
            "downscaleDelay": "10m",
        },
    ),
    _service("downloaded", uri="hf://acme/tiny@v1"),
    _service("suspended", suspend=True),
    _service("stopped", replicas=0),
    _service("refused", resources={"memory": "1Ti"}),
    _service("own-cluster", "team-b", servingCluster={"name": "own"}, accelerator={"pool": "l4", "count": 1}),
    _service(
        "neighbour", "team-c", "pvc://more/gpt2", servingCluster={"name": "own", "namespace": "team-b"}, replicas=2
    ),
)
STARTED_FIRST = ("suspended", "stopped")
"""Services that have served before they were taken down."""
