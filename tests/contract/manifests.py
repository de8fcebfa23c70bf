"""Manifests that the API server and the models must take, and what the wrong ones are made from."""

from typing import Any

Manifest = dict[str, Any]


def an_object(kind: str, spec: Any, name: str) -> Manifest:
    """An object of our group in the namespace default, or cluster-wide for pools."""
    metadata = {"name": name} if kind == "AcceleratorPool" else {"name": name, "namespace": "default"}
    return {"apiVersion": "modelyard.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def service(*, uri: str = "pvc://models/smollm2", name: str = "smollm2", **spec: Any) -> Manifest:
    """A ModelService that is right but for what the arguments change."""
    return an_object("ModelService", {"model": {"source": {"uri": uri}}} | spec, name)


def cluster(*, name: str = "shared", head: Manifest | None = None, **runtime: Any) -> Manifest:
    """A ServingCluster with this runtime."""
    return an_object("ServingCluster", {"runtime": runtime} | ({"head": head} if head else {}), name)


def cluster_for(**allowed: Any) -> Manifest:
    """A ServingCluster that allows these namespaces."""
    return an_object("ServingCluster", {"allowedNamespaces": allowed}, "shared")


def cluster_with(**spec: Any) -> Manifest:
    """A ServingCluster with this spec."""
    return an_object("ServingCluster", spec, "shared")


SMALL = {"name": "small", "cpu": "500m", "memory": "2Gi"}
GPU = {"name": "1xl4", "cpu": 4, "memory": "16Gi", "accelerators": 1}


def cpu_pool(*, name: str = "cpu", **spec: Any) -> Manifest:
    """An AcceleratorPool of CPUs."""
    return an_object("AcceleratorPool", {"device": "cpu", "shapes": [SMALL]} | spec, name)


def gpu_pool(**spec: Any) -> Manifest:
    """An AcceleratorPool of GPUs."""
    given = {"device": "cuda", "resourceName": "nvidia.com/gpu", "shapes": [GPU]} | spec
    return an_object("AcceleratorPool", {key: value for key, value in given.items() if value is not None}, "l4")


RIGHT = (
    service(),
    service(uri="hf://acme/tiny-2.5_b"),
    service(uri="s3://acme.models/llms/run_id=7/tiny-2.5_b@0123456789abcdef"),
    service(uri="oci://registry.example.com:5000/team-a/llms/tiny_b.v2:2026-11"),
    service(uri="oci://registry.example.com/tiny@sha256:" + "0123456789abcdef" * 4),
    service(uri="hf://acme/tiny@refs/pr/7", name="7b-chat", replicas=0),
    service(name="a" * 40, suspend=True, requestTimeout="24h"),
    service(
        uri="pvc://models/org/smollm2-135M_instruct.v1..2",
        servingCluster={"name": "shared", "namespace": "platform"},
        accelerator={"pool": "l4", "count": 1},
        resources={"cpu": 2, "memory": "1.5Gi"},
        autoscaling={
            "minReplicas": 0,
            "maxReplicas": 4,
            "targetOngoingRequests": 8,
            "upscaleDelay": "0s",
            "downscaleDelay": "1h30m",
        },
        requestTimeout="1s",
    ),
    cluster(),
    cluster(
        name="team-a",
        head={"cpu": "0.5", "memory": "4Gi"},
        image="registry.example.com/modelyard-serving:1",
        rayVersion="2.60.0",
        imagePullSecrets=["registry"],
        serviceAccountName="ray",
        priorityClassName="high",
        env=[{"name": "TZ", "value": ""}, {"name": "TOKEN", "secretKeyRef": {"name": "hub", "key": "token"}}],
        caBundle={"name": "corporate"},
        proxy={"httpsProxy": "http://proxy.example.com:3128", "noProxy": "example.com"},
        volumes=[{"claim": "models"}, {"claim": "more-models"}],
    ),
    cluster_with(queueName="team-a", tokenGeneration=2),
    cluster_for(**{"from": "All"}),
    cluster_for(**{"from": "Same"}),
    cluster_for(
        **{
            "from": "Selector",
            "selector": {
                "matchLabels": {"example.com/team": "a", "empty": ""},
                "matchExpressions": [
                    {"key": "env", "operator": "In", "values": ["dev", "test"]},
                    {"key": "env", "operator": "NotIn", "values": ["prod"]},
                    {"key": "kubernetes.io/metadata.name", "operator": "Exists"},
                    {"key": "frozen", "operator": "DoesNotExist", "values": []},
                ],
            },
        }
    ),
    cluster_with(highAvailability=False),
    cluster_with(modelCache={}),
    cluster_with(modelCache={"size": "100Gi"}),
    cluster_with(modelCache={"claim": "cache", "size": "1Ti"}),
    cluster_with(redis={}),
    cluster_with(highAvailability=True, redis={"storage": {"size": "2Gi", "storageClassName": "fast"}}),
    cluster_with(
        redis={"address": "10.0.0.7:6379", "username": "ray", "passwordSecret": {"name": "redis", "key": "password"}}
    ),
    cpu_pool(),
    cpu_pool(allowedNamespaces={"from": "Selector", "selector": {"matchLabels": {"gpu": "yes"}}}),
    cpu_pool(limits={"maxWorkersPerNamespace": 1}),
    cpu_pool(limits={"namespaces": [{"name": "team-a", "maxWorkers": 10000}]}),
    cpu_pool(shapes=[SMALL | {"replicasPerWorker": 16}]),
    gpu_pool(shapes=[GPU | {"accelerators": 4, "replicasPerWorker": 2}]),
    gpu_pool(
        limits={"maxWorkers": 8, "maxWorkersPerNamespace": 4, "namespaces": [{"name": "team-a", "maxWorkers": 6}]},
        nodeSelector={"cloud.example.com/gpu": "l4", "empty": ""},
        maxWorkers=4,
        tolerations=[
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"operator": "Exists"},
        ],
    ),
)
