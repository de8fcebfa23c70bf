"""A pool with limits: two namespaces compete for it, and one that is not allowed is refused."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import get, kubectl, make_pool, until
from e2e.conftest import Maker, make_namespace
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.cluster import Service

POOL = "contested"


@pytest.fixture
def pool(platform: str) -> Iterator[str]:
    yield POOL
    kubectl("delete", "apool", POOL, "--ignore-not-found")


@pytest.fixture
def neighbour(namespace: str, platform: str) -> Iterator[Maker]:
    """Makes services in another namespace."""
    other = f"{namespace}-2"
    until(f"an earlier namespace {other} to be gone", lambda: get("namespace", other) is None, within=120)
    make_namespace(other)
    yield Maker(other, platform)
    kubectl("delete", "namespace", other, "--wait=false")


def use() -> dict[str, Any]:
    """What the pool's status tells."""
    found = get("apool", POOL)
    assert found is not None
    return found.get("status") or {}


def workers(service: "Service") -> int:
    """Workers of the pool that a service's namespace uses."""
    told = {each["name"]: each["workers"] for each in use().get("namespaces", [])}
    return int(told.get(service.namespace, 0))


@pytest.mark.timeout(300)
def test_two_namespaces_compete_for_a_pool(make: Maker, neighbour: Maker, pool: str) -> None:
    make_pool(pool, limits={"maxWorkers": 2})
    auto = {"minReplicas": 1, "maxReplicas": 2, "targetOngoingRequests": 1, "upscaleDelay": "1s"}
    first = make("first", accelerator={"pool": pool}, autoscaling=auto)
    first.wait()
    body = {"model": first.model, "prompt": "The", "max_tokens": 16, "temperature": 0}
    with Load(make.url(first), body, clients=4, pause_s=0) as load:
        until("the first to have the whole pool", lambda: first.status.get("replicas") == 2, within=90)
        assert (use()["usage"], workers(first)) == ("2/2", 2)
        begun = time.monotonic()
        second = neighbour("second", accelerator={"pool": pool}, replicas=2)
        second.wait()
        print(f"the second got its share after {time.monotonic() - begun:.1f} s")
        until("one worker each", lambda: (workers(first), workers(second)) == (1, 1), within=30)
        told = second.wait_reason("Progressing", "PoolFull")
        assert f"pool {POOL} has 2 of 2 workers in use" in told["message"]
        assert f"{first.namespace} 1, {second.namespace} 1" in told["message"]
        assert "this service holds 1 of 2 wanted" in told["message"]
    assert load.failures == [], f"of {load.count} requests"
    make_pool(pool, limits={"maxWorkers": 3})
    until("the second to have all it wants", lambda: second.status.get("replicas") == 2, within=90)


@pytest.mark.timeout(60)
def test_a_pool_for_others_is_refused(make: Maker, pool: str) -> None:
    make_pool(pool, allowedNamespaces={"from": "Selector", "selector": {"matchLabels": {"contested": "yes"}}})
    service = make("outsider", accelerator={"pool": pool}, suspend=True)
    told = service.wait_reason("Accepted", "NamespaceNotAllowed", within=15)
    assert f"not of {make.namespace}" in told["message"]
    kubectl("label", "namespace", make.namespace, "contested=yes")
    service.wait("Accepted", within=15)
