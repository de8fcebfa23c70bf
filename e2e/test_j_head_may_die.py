"""A Ray head, its Redis and a worker die under load: what has a replica on a worker serves on, and all heals."""

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import SYSTEM, Service, apply, get, items, kubectl, replica_processes, until
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.conftest import Maker

CLIENTS = 8
LEFT_BEHIND = ("rayclusters", "statefulsets", "pvc", "secrets", "services", "jobs", "poddisruptionbudgets", "pods")


def condition(kind: str, name: str, namespace: str, condition_type: str) -> dict[str, Any]:
    status = (get(kind, name, namespace) or {}).get("status", {})
    return next((c for c in status.get("conditions", []) if c["type"] == condition_type), {})


def kill(namespace: str, labels: str) -> str:
    """The first pod, at once and without a farewell; gives its uid."""
    pod = items("pods", namespace, labels)[0]["metadata"]
    kubectl("delete", "pod", "-n", namespace, pod["name"], "--grace-period=0", "--force", "--wait=false")
    return str(pod["uid"])


def workers(namespace: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in items("pods", namespace, "ray.io/node-type=worker")}


def heads_of(namespace: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in items("pods", namespace, "ray.io/node-type=head")}


def two_of(service: Service) -> set[int] | None:
    """The processes of its two replicas; None while one of them has the name of what it does just now."""
    found = replica_processes(service.model)
    return found if len(found) == 2 else None


def is_whole(service: Service) -> bool:
    """Whether nothing is wrong any more, with the service and with its ServingCluster."""
    cluster = [condition("scl", "default", SYSTEM, kind).get("status") for kind in ("Available", "Degraded")]
    return cluster == ["True", "False"] and service.condition("Degraded").get("status") == "False"


def heals(service: Service, load: Load, *, within: float) -> float:
    """Seconds until all is whole and has been for five seconds, with requests answered after that."""
    begun = time.monotonic()

    def whole_for_a_while() -> float | None:
        if not is_whole(service):
            return None
        whole = time.monotonic()
        while time.monotonic() - whole < 5:
            if not is_whole(service):
                return None
            time.sleep(0.5)
        return whole - begun

    try:
        took = until("all to be whole again", whole_for_a_while, within=within)
    except AssertionError as error:
        seen = {"service": service.status, "cluster": (get("scl", "default", SYSTEM) or {}).get("status")}
        raise AssertionError(f"{error}\n{json.dumps(seen, indent=1)}\nlost: {load.failures[:3]}") from None
    before = load.count
    until("traffic after that", lambda: load.count > before + 50, within=60)
    return took


@pytest.mark.timeout(480)
def test_head_redis_and_worker_die(make: "Maker") -> None:
    service = make("lasting", replicas=2)
    service.settled(within=300)
    body = {"model": service.model, "prompt": "The", "max_tokens": 2, "temperature": 0}
    replicas = until("two replicas", lambda: two_of(service), within=30)
    with Load(make.url(service), body, clients=CLIENTS) as load:
        until("some traffic", lambda: load.count > 50, within=60)
        kill(SYSTEM, "ray.io/node-type=head")
        told = service.wait_reason("Degraded", "HeadGone", within=30)
        assert "serve on" in told["message"]
        assert service.condition("Available")["status"] == "True"
        head_s = heals(service, load, within=150)
    assert load.failures == []
    until("the replicas of before: no model loaded anew", lambda: two_of(service) == replicas, within=10)
    print(f"head: whole after {head_s:.1f} s; {load.count} requests, slowest {load.slowest_s:.2f} s")

    with Load(make.url(service), body, clients=CLIENTS) as load:
        until("some traffic", lambda: load.count > 50, within=60)
        heads, killed = heads_of(SYSTEM), time.monotonic()
        old = kill(SYSTEM, "modelyard.dev/component=redis")
        until("another Redis", lambda: _ready_other("modelyard.dev/component=redis", old), within=60)
        until("the head that missed Redis to be replaced", lambda: not heads_of(SYSTEM) & heads, within=90)
        heals(service, load, within=150)
        redis_s = time.monotonic() - killed
    assert load.failures == []
    until("the replicas of before: no model loaded anew", lambda: two_of(service) == replicas, within=10)
    print(f"Redis: whole after {redis_s:.1f} s; {load.count} requests, slowest {load.slowest_s:.2f} s")

    with Load(make.url(service), body, clients=CLIENTS) as load:
        until("some traffic", lambda: load.count > 50, within=60)
        gone = kill(SYSTEM, "ray.io/node-type=worker")
        until("the worker to be gone", lambda: gone not in workers(SYSTEM), within=30)
        until("two replicas", lambda: service.status.get("replicas") == 2, within=150)
        worker_s = heals(service, load, within=150)
    assert len(load.failures) <= CLIENTS, load.failures
    print(f"worker: whole after {worker_s:.1f} s; {load.count} requests, {len(load.failures)} lost")


def _ready_other(labels: str, old: str) -> bool:
    pods = [pod for pod in items("pods", SYSTEM, labels) if pod["metadata"]["uid"] != old]
    return any(c["type"] == "Ready" and c["status"] == "True" for p in pods for c in p["status"].get("conditions", []))


def _cluster(namespace: str, name: str, **spec: Any) -> None:
    metadata = {"name": name, "namespace": namespace}
    small = {"head": {"cpu": "50m", "memory": "2Gi"}, **spec}
    apply({"apiVersion": "modelyard.dev/v1alpha1", "kind": "ServingCluster", "metadata": metadata, "spec": small})


@pytest.mark.timeout(300)
def test_deletion_leaves_nothing(make: "Maker") -> None:
    """First of two ServingClusters, then of the namespace with the other one and a service."""
    service = make("leaving")
    for name in ("first", "second"):
        _cluster(make.namespace, name)
    _cluster(make.namespace, "plain", highAvailability=False)
    for name in ("first", "second"):
        until(
            f"{name} to be ready",
            lambda name=name: condition("scl", name, make.namespace, "Ready").get("status") == "True",  # type: ignore[misc]
            within=150,
        )
    service.wait()
    assert not [each for each in items("statefulsets", make.namespace) if each["metadata"]["name"].startswith("plain")]
    assert not get("pvc", "plain-redis", make.namespace)
    begun = time.monotonic()
    kubectl("delete", "scl", "first", "-n", make.namespace, "--wait=false")
    until("nothing of the first one", lambda: not _left(make.namespace, "first"), within=120)
    cluster_s = time.monotonic() - begun
    begun = time.monotonic()
    kubectl("delete", "namespace", make.namespace, "--wait=false")
    until("the namespace to be gone", lambda: get("namespace", make.namespace) is None, within=120)
    print(f"ServingCluster gone after {cluster_s:.1f} s, namespace after {time.monotonic() - begun:.1f} s")
    kubectl("create", "namespace", make.namespace)


def _left(namespace: str, cluster: str) -> list[str]:
    found = [each for kind in LEFT_BEHIND for each in items(kind, namespace)]
    names = [f"{each['kind']} {each['metadata']['name']}" for each in found]
    left = [name for name in names if name.split()[1].startswith(f"{cluster}-")]
    return left + (["ServingCluster"] if get("scl", cluster, namespace) else [])


@pytest.mark.timeout(120)
@pytest.mark.skipif("MODELYARD_E2E_MODELS" not in os.environ, reason="changes the cluster's default StorageClass")
def test_without_a_default_storage_class(make: "Maker") -> None:
    default = "storageclass.kubernetes.io/is-default-class"
    kubectl("annotate", "storageclass", "local", f"{default}-")
    try:
        _cluster(make.namespace, "own")
        until("NoStorageClass", lambda: _reason(make.namespace, "own") == "NoStorageClass", within=30)
        assert "highAvailability" in condition("scl", "own", make.namespace, "Ready")["message"]
        assert items("rayclusters", make.namespace) == []
    finally:
        kubectl("annotate", "storageclass", "local", f"{default}=true", "--overwrite")
    until("the claim to get its volume", lambda: items("rayclusters", make.namespace), within=60)


def _reason(namespace: str, cluster: str) -> str:
    return str(condition("scl", cluster, namespace, "Ready").get("reason"))
