"""A Ray head, its Redis and a worker die under load: what has a replica on a worker serves on, and all heals."""

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import SYSTEM, Service, get, items, kubectl, until
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.conftest import Maker

CLIENTS, PAUSE_S = 8, 0.1


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
    before = workers(SYSTEM)
    with Load(make.url(service), body, clients=CLIENTS, pause_s=PAUSE_S) as load:
        until("some traffic", lambda: load.count > 50, within=60)
        kill(SYSTEM, "ray.io/node-type=head")
        told = service.wait_reason("Degraded", "HeadGone", within=30)
        assert "serve on" in told["message"]
        assert service.condition("Available")["status"] == "True"
        head_s = heals(service, load, within=150)
    assert load.failures == []
    assert before <= workers(SYSTEM), "no worker was restarted"
    print(f"head: whole after {head_s:.1f} s; {load.count} requests, slowest {load.slowest_s:.2f} s")

    with Load(make.url(service), body, clients=CLIENTS, pause_s=PAUSE_S) as load:
        until("some traffic", lambda: load.count > 50, within=60)
        old = kill(SYSTEM, "modelyard.dev/component=redis")
        until("another Redis", lambda: _ready_other("modelyard.dev/component=redis", old), within=60)
        time.sleep(5)  # The head ends when it misses Redis, some seconds later.
        redis_s = heals(service, load, within=150)
    assert load.failures == []
    assert before <= workers(SYSTEM), "no worker was restarted"
    print(f"Redis: whole after {redis_s:.1f} s; {load.count} requests, slowest {load.slowest_s:.2f} s")

    with Load(make.url(service), body, clients=CLIENTS, pause_s=PAUSE_S) as load:
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
