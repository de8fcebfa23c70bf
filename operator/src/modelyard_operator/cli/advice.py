"""The next thing to do for each reason; docs/troubleshooting.md says more."""

from dataclasses import dataclass

from modelyard_operator.api.conditions import ConditionType, Reason
from modelyard_operator.cli.services import Service

_DESCRIBE_PODS = "kubectl -n {cluster_namespace} describe pods -l modelyard.dev/serving-cluster={cluster}"
_LOGS = "modelyard logs {name} -n {namespace}"
_EDIT = "kubectl -n {namespace} edit msvc {name}"
_RUNTIME = "kubectl -n {cluster_namespace} edit scl {cluster}"
_WATCH = "kubectl -n {namespace} wait --for=condition=Ready msvc/{name} --timeout=10m"
_HEAD = "kubectl -n {cluster_namespace} describe scl {cluster}"
_EVENTS = "kubectl get events -A --field-selector reason=DriftUndone"
_OPERATOR = "kubectl get pods -A -l app.kubernetes.io/name=modelyard"

ADVICE = {
    Reason.ACCEPTED: ("The operator has taken it up; wait for it.", _WATCH),
    Reason.INVALID_SPEC: ("Correct the field that the message names.", _EDIT),
    Reason.POOL_NOT_FOUND: ("Name a pool that is there in spec.accelerator.pool.", "kubectl get apool"),
    Reason.NO_SHAPE_FITS: ("Ask for less, or have a larger shape added to the pool.", "kubectl get apool -o yaml"),
    Reason.EXCEEDS_NAMESPACE_LIMITS: (
        "Pick a shape that the limits allow, or have the limits changed.",
        "kubectl -n {cluster_namespace} get quota,limitrange -o yaml",
    ),
    Reason.SERVING_CLUSTER_NOT_FOUND: ("Create it, or name another in spec.servingCluster.", "kubectl get scl -A"),
    Reason.VOLUME_NOT_MOUNTED: ("Have the claim added to the ServingCluster's spec.runtime.volumes.", _RUNTIME),
    Reason.NAMESPACE_NOT_ALLOWED: (
        "Have its owner allow the namespace in spec.allowedNamespaces, or name another one.",
        "kubectl get scl -A",
    ),
    Reason.SERVING: ("Nothing: it serves. Ask what it offers, inside the cluster:", "curl {url}/v1/models"),
    Reason.SCALED_TO_ZERO: ("Nothing: the next request starts a replica.", "curl {url}/v1/models"),
    Reason.STOPPED: ("Scale it up.", "kubectl -n {namespace} scale msvc {name} --replicas=1"),
    Reason.SUSPENDED: (
        "Resume it.",
        'kubectl -n {namespace} patch msvc {name} --type=merge -p \'{{"spec":{{"suspend":false}}}}\'',
    ),
    Reason.REPLACING: ("Wait until the new revision serves; see where it stands.", _WATCH),
    Reason.NOT_SERVING: ("See what its replicas say.", _LOGS),
    Reason.DELETING: ("Wait: it goes when the gateways send it no more requests.", _OPERATOR),
    Reason.COMPLETE: ("Nothing.", _WATCH),
    Reason.QUEUED: ("Wait until Kueue admits the worker pod, or have the queue's quota raised.", _DESCRIBE_PODS),
    Reason.NO_HEADROOM: ("Free workers, add some, or set spec.rollout.onNoHeadroom: Replace.", _EDIT),
    Reason.WAITING_FOR_CLUSTER: ("Wait for the Ray head; see where it stands.", _HEAD),
    Reason.WAITING_FOR_WORKER: ("Wait for a node and the worker pod; see where it stands.", _DESCRIBE_PODS),
    Reason.PULLING_IMAGE: ("Wait for the image; see how far it is.", _DESCRIBE_PODS),
    Reason.LOADING_MODEL: ("Wait while the replicas load the model; see what they say.", _LOGS + " -f"),
    Reason.PROVING: ("Wait for the first real inference.", _WATCH),
    Reason.SWITCHING_TRAFFIC: ("Wait until every gateway has switched.", _OPERATOR),
    Reason.DRAINING: ("Wait while the old revision finishes its requests.", _LOGS + " -f"),
    Reason.SCALING: ("Wait for the replicas; see where their pods stand.", _DESCRIBE_PODS),
    Reason.POOL_FULL: ("Wait for workers of the pool, or have its spec.limits raised.", "kubectl get apool -o yaml"),
    Reason.FAILED: ("Correct what the Degraded condition names.", _EDIT),
    Reason.HEALTHY: ("Nothing.", _WATCH),
    Reason.MODEL_NOT_FOUND: ("Correct spec.model.source.uri, or put the model there.", _EDIT),
    Reason.MODEL_UNREADABLE: ("Let user 1000 read the files on the claim.", _LOGS),
    Reason.MODEL_INVALID: ("Put complete safetensors weights and the tokenizer there.", _LOGS),
    Reason.MODEL_TOO_LARGE: ("Raise spec.resources.memory.", _EDIT),
    Reason.ACCELERATOR_MISSING: ("Have the pool's nodes and device plugin checked.", _LOGS),
    Reason.SOURCE_DENIED: ("Give the ServingCluster credentials that may read it, in spec.runtime.env.", _RUNTIME),
    Reason.SOURCE_UNREACHABLE: ("See what the download said; look at proxy, endpoint and network.", _LOGS),
    Reason.DOWNLOAD_CORRUPT: ("Have the file uploaded again, or the proxy on the way looked at.", _LOGS),
    Reason.CACHE_FULL: ("Raise the ServingCluster's spec.modelCache.size, or give it a larger volume.", _RUNTIME),
    Reason.CACHE_NOT_WRITABLE: ("Give the volume of the ServingCluster's spec.modelCache to group 1000.", _RUNTIME),
    Reason.OUT_OF_MEMORY: ("Raise spec.resources.memory.", _EDIT),
    Reason.IMPORT_FAILED: ("Correct the image in the ServingCluster's spec.runtime.image.", _RUNTIME),
    Reason.DEPLOY_FAILED: ("See what its replicas say.", _LOGS),
    Reason.PROOF_FAILED: ("See why the first inference failed.", _LOGS),
    Reason.IMAGE_NOT_FOUND: ("Correct spec.runtime.image or imagePullSecrets of the ServingCluster.", _RUNTIME),
    Reason.NO_NODE_FITS: ("Add a node, free one, or ask for less.", _DESCRIBE_PODS),
    Reason.POD_FAILED: ("See why the pod failed.", _DESCRIBE_PODS),
    Reason.REPLICAS_UNHEALTHY: ("See what its replicas say.", _LOGS),
    Reason.KUBERAY_ABSENT: (
        "Have KubeRay installed or started.",
        "kubectl get pods -A -l app.kubernetes.io/component=kuberay-operator",
    ),
    Reason.KUBERAY_UNSUPPORTED: ("Have KubeRay upgraded with its CRDs.", "kubectl get crd rayclusters.ray.io -o yaml"),
    Reason.HEAD_STARTING: ("Wait for the Ray head; see where it stands.", _HEAD),
    Reason.HEAD_GONE: ("Wait: KubeRay starts another head; see why it went.", _HEAD),
    Reason.AUTOSCALER_GONE: ("See whether its head is replaced, and why its autoscaler ended.", _HEAD),
    Reason.NO_STORAGE_CLASS: ("Name a StorageClass in the ServingCluster's spec.redis.storage.", _RUNTIME),
    Reason.REDIS_NOT_READY: ("Wait, or see why the Redis of the ServingCluster does not come up.", _DESCRIBE_PODS),
    Reason.SERVE_UNREACHABLE: ("See whether the Ray head is well.", _HEAD),
    Reason.CONFIG_REFUSED: ("Tell the platform team: Ray Serve refuses the whole configuration.", _HEAD),
    Reason.DRIFT_UNDONE: ("Nothing: it was put back. Ask whoever changed it to change the spec instead.", _EVENTS),
}


@dataclass(frozen=True)
class Advice:
    """What to do next and the command that helps."""

    sentence: str
    command: str


def next_thing(service: Service) -> Advice:
    """The next thing to do about `service`."""
    going = "deletionTimestamp" in service.manifest["metadata"]
    if not going and (service.ready is None or service.is_behind):
        return Advice("The operator has not looked at the newest spec yet. Is it running?", _OPERATOR)
    sentence, command = ADVICE[Reason.DELETING if going else _cause(service)]
    cluster_namespace, _, cluster = (service.status.serving_cluster or "<namespace>/<cluster>").partition("/")
    values = {
        "name": service.name,
        "namespace": service.namespace,
        "cluster": cluster,
        "cluster_namespace": cluster_namespace,
        "url": service.status.url or "<url>",
    }
    return Advice(sentence, command.format(**values))


def _cause(service: Service) -> Reason:
    """What matters most: something wrong, then what the summary says."""
    degraded = service.condition(ConditionType.DEGRADED)
    ready = service.ready
    reason = degraded.reason if degraded is not None and degraded.status == "True" else ready.reason if ready else ""
    return Reason(reason) if reason in list(Reason) else Reason.NOT_SERVING
