"""Streams of three minutes on one service, while the one beside it is released, drained, scaled, killed and deleted."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import SYSTEM, Service, items, kubectl, make_pool, until
from e2e.traffic import Load, Stream

if TYPE_CHECKING:
    from e2e.conftest import Maker

STREAMS = 6
"""Enough that some pass through each worker's proxy and each gateway."""
LASTING_S = 180
WORKERS = "ray.io/node-type=worker"
GATEWAYS = "app.kubernetes.io/component=gateway"
CLIENTS = 8


@pytest.fixture
def pool(platform: str) -> Iterator[str]:
    """Its workers are those of one service only."""
    make_pool("beside")
    yield "beside"
    kubectl("delete", "apool", "beside", "--ignore-not-found")


@pytest.mark.timeout(600)
def test_long_streams(make: "Maker", pool: str) -> None:
    steady = make("steady", "pvc://models/smollm2", resources={"memory": "3Gi"})
    beside = make("beside", replicas=2, accelerator={"pool": pool})
    steady.wait(within=300)
    beside.settled(within=300)
    # SmolLM2 counts on for thousands of tokens.
    long = {"model": steady.model, "prompt": "1 2 3 4 5 6 7 8 9 10 11 12 13", "max_tokens": 8000, "temperature": 0}
    # Long enough that some are always under way.
    body = {"model": beside.model, "prompt": "The", "max_tokens": 24, "temperature": 0}
    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(make.url(steady), long)) for _ in range(STREAMS)]
        until("the streams", lambda: all(stream.events > 5 for stream in streams), within=60)
        begun = time.monotonic()
        with Load(make.url(beside), body, clients=CLIENTS) as load:
            gateways = stack.enter_context(_drain(_node(beside), GATEWAYS))
            _drained(beside, load)
            _released(beside, load)
            beside.patch(replicas=1)
            until("one replica", lambda: beside.status.get("replicas") == 1, within=60)
        assert load.failures == [], f"of {load.count}"
        print(f"{load.count} requests, slowest {load.slowest_s:.2f} s")
        worker = sorted(_names(_workers(beside)))[0]
        kubectl("delete", "pod", "-n", SYSTEM, worker, "--grace-period=0", "--force", "--wait=false")
        beside.wait(within=120)
        # Its workers go when they have been idle.
        beside.delete()
        until("three minutes", lambda: time.monotonic() - begun > LASTING_S, within=LASTING_S)
        for stream in streams:
            stream.end()
        # Until then the gateways that were drained kept the streams that went through them.
        _ended_well(gateways)
        assert [stream.error for stream in streams] == [None] * STREAMS
        assert all(stream.lasted for stream in streams)
        print(f"{[stream.events for stream in streams]} events in {time.monotonic() - begun:.0f} s")


def _released(service: Service, load: Load) -> None:
    """A new revision takes over; the old one's workers finish."""
    first = service.status["activeRevision"]
    seen: set[str] = set()
    service.patch(requestTimeout="30m")

    def switched() -> bool:
        status = service.status
        seen.update(c["reason"] for c in status["conditions"] if c["type"] == "Progressing")
        return status["activeRevision"] != first and len(status["revisions"]) == 1

    until("the new revision alone", switched, within=300)
    count = load.count
    until("traffic on the new revision", lambda: load.count > count + 3 * CLIENTS, within=60)
    assert seen & {"LoadingModel", "WaitingForWorker", "PullingImage"}
    assert "Draining" in seen


def _drained(service: Service, load: Load) -> None:
    """`kubectl drain` of the service's workers, while the gateways are drained."""
    until("traffic", lambda: load.count > 3 * CLIENTS, within=60)
    workers, begun, count = _workers(service), time.monotonic(), load.count
    before, node = _names(workers), _node(service)
    with _drain(node, workers) as drain:
        until("the first evictions", lambda: _leaving(workers) and _leaving(GATEWAYS), within=60)
        # The cluster may have one node only.
        kubectl("uncordon", node)
        _ended_well(drain)
    assert not before & _names(workers)
    print(f"drained in {time.monotonic() - begun:.0f} s, {load.count - count} requests meanwhile")
    count = load.count
    until("traffic afterwards", lambda: load.count > count + 3 * CLIENTS, within=60)


@contextmanager
def _drain(node: str, selector: str) -> Iterator["subprocess.Popen[str]"]:
    """As an administrator drains a node, but only of some pods; the node may take pods again at the end."""
    command = [
        "kubectl", "drain", node, f"--pod-selector={selector}", "--delete-emptydir-data", "--ignore-daemonsets",
        "--timeout=400s",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as drain:
        try:
            yield drain
        finally:
            kubectl("uncordon", node)
            drain.kill()


def _node(service: Service) -> str:
    return str(_pods(_workers(service))[0]["spec"]["nodeName"])


def _ended_well(drain: "subprocess.Popen[str]") -> None:
    said = drain.communicate(timeout=200)[0]
    assert drain.returncode == 0, said
    # One at a time, because of their budget.
    assert "would violate the pod's disruption budget" in said, said


def _workers(service: Service) -> str:
    """A selector of the worker pods that a service's only revision may run on."""
    (revision,) = items("controllerrevisions", service.namespace, f"modelyard.dev/service={service.name}")
    return f"{WORKERS},ray.io/group={revision['data']['workerGroup']['groupName']}"


def _pods(selector: str) -> list[dict[str, Any]]:
    return items("pods", SYSTEM, selector)


def _names(selector: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in _pods(selector)}


def _leaving(selector: str) -> bool:
    return any("deletionTimestamp" in pod["metadata"] for pod in _pods(selector))
