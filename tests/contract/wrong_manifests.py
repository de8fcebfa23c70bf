"""Manifests that must be refused, with the field that the refusal names and the fix where a rule is ours."""

from dataclasses import dataclass
from typing import Any

from tests.contract.manifests import (
    GPU,
    SMALL,
    Manifest,
    an_object,
    cluster,
    cluster_for,
    cluster_with,
    cpu_pool,
    gpu_pool,
    service,
)


@dataclass(frozen=True)
class Wrong:
    """A manifest, the field that the refusal must name, and the words of the fix where the rule is ours."""

    title: str
    manifest: Manifest
    field: str
    words: str = ""


def _env(**variable: Any) -> Manifest:
    return cluster(env=[variable])


def _tolerating(**toleration: Any) -> Manifest:
    return gpu_pool(tolerations=[toleration])


def _selecting(**selector: Any) -> Manifest:
    return cluster_for(**{"from": "Selector", "selector": selector})


_LONG = "a" * 41
_NAME = "must be at most 40 lower case letters, digits and inner hyphens"
_URI = "must be pvc://<claim>/<folder>, for example pvc://models/smollm2"
_DURATION = "for example 30s, 5m or 1h30m"
_MEMORY = "must be an amount of memory above zero, for example 512Mi or 2Gi"

WRONG = (
    # ModelService: what to serve
    Wrong("no spec", {key: value for key, value in service().items() if key != "spec"}, "spec"),
    Wrong("no model", an_object("ModelService", {}, "smollm2"), "spec.model"),
    Wrong("no source", an_object("ModelService", {"model": {}}, "smollm2"), "spec.model.source"),
    Wrong("no uri", an_object("ModelService", {"model": {"source": {}}}, "smollm2"), "spec.model.source.uri"),
    Wrong("a hub's repository without organisation", service(uri="hf://model"), "spec.model.source.uri", _URI),
    Wrong("a hub's repository and a folder in it", service(uri="hf://a/b/c"), "spec.model.source.uri", _URI),
    Wrong("an @ without a revision", service(uri="hf://a/b@"), "spec.model.source.uri", _URI),
    Wrong("a bucket without a prefix", service(uri="s3://models"), "spec.model.source.uri", _URI),
    Wrong("a bucket in capitals", service(uri="s3://Models/smollm2"), "spec.model.source.uri", _URI),
    Wrong("a way out of the prefix", service(uri="s3://models/../other"), "spec.model.source.uri", _URI),
    Wrong("a version that nobody told", service(uri="s3://models/a@latest"), "spec.model.source.uri", _URI),
    Wrong("an artifact without a tag", service(uri="oci://registry.example.com/a/b"), "spec.model.source.uri", _URI),
    Wrong("an artifact in capitals", service(uri="oci://registry.example.com/A/b:v1"), "spec.model.source.uri", _URI),
    Wrong(
        "a digest that is cut", service(uri="oci://registry.example.com/a@sha256:0a1b"), "spec.model.source.uri", _URI
    ),
    Wrong("an account in the uri", service(uri="oci://me:secret@registry/a:v1"), "spec.model.source.uri", _URI),
    Wrong("a source that nobody knows", service(uri="ftp://a/b"), "spec.model.source.uri", _URI),
    Wrong("a claim without a folder", service(uri="pvc://models"), "spec.model.source.uri", _URI),
    Wrong("a way out of the claim", service(uri="pvc://models/../etc"), "spec.model.source.uri", _URI),
    Wrong("a slash at the end", service(uri="pvc://models/smollm2/"), "spec.model.source.uri", _URI),
    Wrong("a claim in capitals", service(uri="pvc://Models/smollm2"), "spec.model.source.uri", _URI),
    Wrong("a line break after the uri", service(uri="pvc://models/a\n"), "spec.model.source.uri", _URI),
    Wrong("a uri without end", service(uri="pvc://models/" + "a" * 512), "spec.model.source.uri"),
    Wrong(
        "a task that nobody has",
        an_object("ModelService", {"model": {"source": {"uri": "pvc://m/a"}, "task": "poetry"}}, "smollm2"),
        "spec.model.task",
    ),
    Wrong("a misspelt field", service(autoscalling={"maxReplicas": 2}), "spec.autoscalling"),
    Wrong("a misspelt field further in", service(resources={"mem": "2Gi"}), "spec.resources.mem"),
    # ModelService: names
    Wrong("a name that is too long", service(name=_LONG), "metadata.name", _NAME),
    Wrong("a name with a dot", service(name="smollm2.v1"), "metadata.name", _NAME),
    # ModelService: how many
    Wrong(
        "replicas and autoscaling",
        service(replicas=1, autoscaling={"maxReplicas": 2}),
        "spec.replicas",
        "spec.replicas and spec.autoscaling exclude each other: keep one of them",
    ),
    Wrong(
        "zero replicas and autoscaling",
        service(replicas=0, autoscaling={"maxReplicas": 2}),
        "spec.replicas",
        "spec.replicas and spec.autoscaling exclude each other: keep one of them",
    ),
    Wrong("less than no replicas", service(replicas=-1), "spec.replicas"),
    Wrong("too many replicas", service(replicas=1001), "spec.replicas"),
    Wrong("replicas in words", service(replicas="2"), "spec.replicas"),
    Wrong("suspend in words", service(suspend="yes"), "spec.suspend"),
    Wrong("autoscaling without an end", service(autoscaling={"minReplicas": 1}), "spec.autoscaling.maxReplicas"),
    Wrong("at most no replicas", service(autoscaling={"maxReplicas": 0}), "spec.autoscaling.maxReplicas"),
    Wrong(
        "more at least than at most",
        service(autoscaling={"minReplicas": 3, "maxReplicas": 2}),
        "spec.autoscaling.minReplicas",
        "spec.autoscaling.minReplicas must not be above maxReplicas: lower it or raise that",
    ),
    Wrong(
        "no requests at once",
        service(autoscaling={"maxReplicas": 2, "targetOngoingRequests": 0}),
        "spec.autoscaling.targetOngoingRequests",
    ),
    Wrong(
        "a delay without a unit",
        service(autoscaling={"maxReplicas": 2, "upscaleDelay": "5"}),
        "spec.autoscaling.upscaleDelay",
        _DURATION,
    ),
    Wrong(
        "a delay in days",
        service(autoscaling={"maxReplicas": 2, "downscaleDelay": "2d"}),
        "spec.autoscaling.downscaleDelay",
        _DURATION,
    ),
    # ModelService: where and how long
    Wrong("another way out of no room", service(rollout={"onNoHeadroom": "Kill"}), "spec.rollout.onNoHeadroom"),
    Wrong("a timeout as a number", service(requestTimeout=3600), "spec.requestTimeout"),
    Wrong(
        "a timeout that is too short",
        service(requestTimeout="500ms"),
        "spec.requestTimeout",
        "from 1s to 24h",
    ),
    Wrong("a timeout that is too long", service(requestTimeout="24h1s"), "spec.requestTimeout", "from 1s to 24h"),
    Wrong(
        "a timeout that overflows",
        service(requestTimeout="9999999h"),
        "spec.requestTimeout",
        "from 1s to 24h",
    ),
    Wrong(
        "two accelerators",
        service(accelerator={"pool": "l4", "count": 2}),
        "spec.accelerator.count",
        "must be 1 or left out: tensor parallelism over several accelerators is not offered yet",
    ),
    Wrong("a pool in capitals", service(accelerator={"pool": "L4"}), "spec.accelerator.pool"),
    Wrong("memory in gigabytes", service(resources={"memory": "2GB"}), "spec.resources.memory", _MEMORY),
    Wrong("memory in milli", service(resources={"memory": "500m"}), "spec.resources.memory", _MEMORY),
    Wrong("no memory at all", service(resources={"memory": "0Gi"}), "spec.resources.memory", _MEMORY),
    Wrong("no cpu at all", service(resources={"cpu": "0"}), "spec.resources.cpu"),
    Wrong("cpu in bytes", service(resources={"cpu": "2Gi"}), "spec.resources.cpu"),
    Wrong("less than no cpu", service(resources={"cpu": -1}), "spec.resources.cpu"),
    Wrong("a cluster without a name", service(servingCluster={}), "spec.servingCluster.name"),
    Wrong(
        "a cluster's namespace with a dot",
        service(servingCluster={"name": "shared", "namespace": "a.b"}),
        "spec.servingCluster.namespace",
    ),
    # ServingCluster
    Wrong(
        "a cluster's name that begins with a digit",
        cluster(name="1st"),
        "metadata.name",
        "beginning with a letter",
    ),
    Wrong("a cluster's name that is too long", cluster(name=_LONG), "metadata.name", _NAME),
    Wrong("an old Ray", cluster(rayVersion="2.59.9"), "spec.runtime.rayVersion", "from 2.60.0 on"),
    Wrong("half a Ray version", cluster(rayVersion="2.60"), "spec.runtime.rayVersion", "for example 2.60.0"),
    Wrong("no image", cluster(image=""), "spec.runtime.image"),
    Wrong(
        "a variable without a value",
        _env(name="A"),
        "spec.runtime.env[0]",
        "exactly one of value and secretKeyRef",
    ),
    Wrong(
        "a variable with two values",
        _env(name="A", value="1", secretKeyRef={"name": "s", "key": "k"}),
        "spec.runtime.env[0]",
        "exactly one of value and secretKeyRef",
    ),
    Wrong(
        "a variable of Ray's",
        _env(name="RAY_AUTH_MODE", value="none"),
        "spec.runtime.env[0].name",
        "names that begin with RAY_ belong to the operator: remove the variable",
    ),
    Wrong(
        "a variable's name with a hyphen",
        _env(name="A-B", value="1"),
        "spec.runtime.env[0].name",
        "must be letters, digits and underscores",
    ),
    Wrong(
        "a variable twice",
        cluster(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        "spec.runtime.env",
        "Duplicate value",
    ),
    Wrong(
        "a secret without a key",
        _env(name="A", secretKeyRef={"name": "s"}),
        "spec.runtime.env[0].secretKeyRef.key",
    ),
    Wrong(
        "a claim twice",
        cluster(volumes=[{"claim": "models"}, {"claim": "models"}]),
        "spec.runtime.volumes",
        "Duplicate value",
    ),
    Wrong("a claim with a slash", cluster(volumes=[{"claim": "a/b"}]), "spec.runtime.volumes[0].claim"),
    Wrong(
        "a pull secret twice",
        cluster(imagePullSecrets=["registry", "registry"]),
        "spec.runtime.imagePullSecrets",
        "Duplicate value",
    ),
    Wrong("an empty proxy", cluster(proxy={}), "spec.runtime.proxy", "needs httpProxy or httpsProxy: set one"),
    Wrong(
        "exceptions without a proxy",
        cluster(proxy={"noProxy": "example.com"}),
        "spec.runtime.proxy",
        "needs httpProxy or httpsProxy: set one",
    ),
    Wrong(
        "a password in a proxy",
        cluster(proxy={"httpsProxy": "http://me:secret@proxy:3128"}),
        "spec.runtime.proxy.httpsProxy",
        "HTTP_PROXY and HTTPS_PROXY with secretKeyRef",
    ),
    Wrong("a CA bundle without a name", cluster(caBundle={"key": "ca.crt"}), "spec.runtime.caBundle.name"),
    Wrong("a head without memory", cluster(head={"memory": "0"}), "spec.head.memory", _MEMORY),
    Wrong("namespaces from nowhere", cluster_for(selector={}), "spec.allowedNamespaces.from"),
    Wrong("namespaces from an unknown place", cluster_for(**{"from": "Some"}), "spec.allowedNamespaces.from"),
    Wrong(
        "a selector that is missing",
        cluster_for(**{"from": "Selector"}),
        "spec.allowedNamespaces.selector",
        "selector is needed with from: Selector",
    ),
    Wrong(
        "a selector of all namespaces",
        cluster_for(**{"from": "All", "selector": {"matchLabels": {"a": "b"}}}),
        "spec.allowedNamespaces.selector",
        "has no meaning otherwise: set from to Selector, or remove selector",
    ),
    Wrong(
        "a selector that selects nothing",
        _selecting(matchLabels={}),
        "spec.allowedNamespaces.selector",
        "needs matchLabels or matchExpressions: set one, or use from: All",
    ),
    Wrong(
        "an expression without values",
        _selecting(matchExpressions=[{"key": "env", "operator": "In", "values": []}]),
        "spec.allowedNamespaces.selector.matchExpressions[0].values",
        "are needed with operator In and NotIn",
    ),
    Wrong(
        "an expression with values that it does not look at",
        _selecting(matchExpressions=[{"key": "env", "operator": "Exists", "values": ["dev"]}]),
        "spec.allowedNamespaces.selector.matchExpressions[0].values",
        "have no meaning with Exists and DoesNotExist",
    ),
    Wrong(
        "Redis for a head that keeps nothing",
        cluster_with(highAvailability=False, redis={"address": "redis:6379"}),
        "spec.redis",
        "has no meaning with highAvailability false: remove it, or set highAvailability to true",
    ),
    Wrong(
        "a volume for somebody else's Redis",
        cluster_with(redis={"address": "redis:6379", "storage": {}}),
        "spec.redis.storage",
        "is for the Redis that the operator runs: remove it",
    ),
    Wrong(
        "a password for no address",
        cluster_with(redis={"passwordSecret": {"name": "redis", "key": "password"}}),
        "spec.redis.address",
        "is needed with username and passwordSecret: set it",
    ),
    Wrong(
        "an address without a port",
        cluster_with(redis={"address": "redis.databases.svc"}),
        "spec.redis.address",
        "must be <host>:<port>, for example redis.databases.svc:6379",
    ),
    Wrong("a volume without size", cluster_with(redis={"storage": {"size": "0"}}), "spec.redis.storage.size", _MEMORY),
    # AcceleratorPool
    Wrong(
        "a pool for its own namespace",
        cpu_pool(allowedNamespaces={"from": "Same"}),
        "spec.allowedNamespaces.from",
        "must be All or Selector: an AcceleratorPool is in no namespace",
    ),
    Wrong("a pool's name that is too long", cpu_pool(name=_LONG), "metadata.name", _NAME),
    Wrong("no shapes", cpu_pool(shapes=[]), "spec.shapes"),
    Wrong("an unknown device", cpu_pool(device="tpu"), "spec.device"),
    Wrong("a shape without memory", cpu_pool(shapes=[{"name": "a", "cpu": 1}]), "spec.shapes[0].memory"),
    Wrong(
        "a shape with memory in words",
        cpu_pool(shapes=[SMALL | {"memory": "lots"}]),
        "spec.shapes[0].memory",
        _MEMORY,
    ),
    Wrong("a shape twice", cpu_pool(shapes=[SMALL, SMALL]), "spec.shapes", "Duplicate value"),
    Wrong(
        "GPUs in a pool of CPUs",
        cpu_pool(shapes=[GPU]),
        "spec.shapes",
        "spec.shapes of a pool with device cpu have no accelerators: remove them, or use cuda",
    ),
    Wrong(
        "a resource in a pool of CPUs",
        cpu_pool(resourceName="nvidia.com/gpu"),
        "spec.resourceName",
        "has no meaning with device cpu: leave it out, or set device to cuda",
    ),
    Wrong(
        "GPUs without a resource",
        gpu_pool(resourceName=None),
        "spec.resourceName",
        "is needed with device cuda: set it, for example to nvidia.com/gpu",
    ),
    Wrong(
        "a resource without a domain",
        gpu_pool(resourceName="gpu"),
        "spec.resourceName",
        "must be an extended resource with its domain, for example nvidia.com/gpu",
    ),
    Wrong(
        "a shape without GPUs in a pool of GPUs",
        gpu_pool(shapes=[GPU, SMALL]),
        "spec.shapes",
        "must each have accelerators of at least 1",
    ),
    Wrong(
        "GPUs that cannot be shared evenly",
        gpu_pool(shapes=[GPU | {"accelerators": 2, "replicasPerWorker": 3}]),
        "spec.shapes[0].replicasPerWorker",
        "must be a multiple or a divisor of its accelerators",
    ),
    Wrong("an empty worker", cpu_pool(shapes=[SMALL | {"replicasPerWorker": 0}]), "spec.shapes[0].replicasPerWorker"),
    Wrong("a queue in capitals", cluster_with(queueName="Team-A"), "spec.queueName"),
    Wrong("a token before the first", cluster_with(tokenGeneration=0), "spec.tokenGeneration"),
    Wrong(
        "a toleration of any value with a value",
        _tolerating(key="gpu", operator="Exists", value="yes"),
        "spec.tolerations[0].value",
        "has no meaning with operator Exists: remove it, or use Equal",
    ),
    Wrong(
        "a toleration without a key",
        _tolerating(value="yes"),
        "spec.tolerations[0]",
        "is needed with operator Equal: set key, or use operator Exists",
    ),
    Wrong(
        "a toleration of an unknown effect",
        _tolerating(key="gpu", effect="Never"),
        "spec.tolerations[0].effect",
    ),
    Wrong("a label that is no label", gpu_pool(nodeSelector={"gpu": "a b"}), "spec.nodeSelector.gpu"),
    Wrong("no workers", cpu_pool(maxWorkers=0), "spec.maxWorkers"),
    Wrong(
        "limits that limit nothing",
        cpu_pool(limits={}),
        "spec.limits",
        "needs maxWorkers, maxWorkersPerNamespace or namespaces: set one, or leave limits out",
    ),
    Wrong("a total of no workers", cpu_pool(limits={"maxWorkers": 0}), "spec.limits.maxWorkers"),
    Wrong("a total without end", cpu_pool(limits={"maxWorkers": 10001}), "spec.limits.maxWorkers"),
    Wrong(
        "no workers for any namespace",
        cpu_pool(limits={"maxWorkersPerNamespace": 0}),
        "spec.limits.maxWorkersPerNamespace",
    ),
    Wrong(
        "a namespace's limit without a number",
        cpu_pool(limits={"namespaces": [{"name": "team-a"}]}),
        "spec.limits.namespaces[0].maxWorkers",
    ),
    Wrong(
        "a limit of a namespace that cannot be",
        cpu_pool(limits={"namespaces": [{"name": "Team_A", "maxWorkers": 1}]}),
        "spec.limits.namespaces[0].name",
    ),
    Wrong(
        "a namespace limited twice",
        cpu_pool(limits={"namespaces": [{"name": "a", "maxWorkers": 1}, {"name": "a", "maxWorkers": 2}]}),
        "spec.limits.namespaces",
        "Duplicate value",
    ),
)
