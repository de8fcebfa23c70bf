"""A node is drained as an administrator drains it, and no client notices."""

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import SYSTEM, items, kubectl, until
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.conftest import Maker

WORKERS = "ray.io/node-type=worker"
GATEWAYS = "app.kubernetes.io/component=gateway"
CLIENTS = 8


@pytest.mark.extended
@pytest.mark.timeout(480)
def test_node_drained(make: "Maker") -> None:
    """`kubectl drain` of a service's two workers and of the gateways.

    The cluster may have one node only, so it takes pods again as soon as the first ones leave.
    """
    service = make("drained", replicas=2)
    service.wait(within=300)
    group = f"{WORKERS},ray.io/group={_group(service.model)}"
    before = _names(group) | _names(GATEWAYS)
    node = _pods(group)[0]["spec"]["nodeName"]
    # Long enough that some are always under way.
    body = {"model": service.model, "prompt": "The", "max_tokens": 48, "temperature": 0}
    with Load(make.url(service), body, clients=CLIENTS) as load:
        until("traffic", lambda: load.count > 3 * CLIENTS, within=60)
        begun, count = time.monotonic(), load.count
        drains = [_drain(node, selector) for selector in (group, GATEWAYS)]
        try:
            until("the first evictions", lambda: _leaving(group) and _leaving(GATEWAYS), within=60)
        finally:
            kubectl("uncordon", node)
        said = [drain.communicate(timeout=300)[0] for drain in drains]
        took, during = time.monotonic() - begun, load.count - count
        count = load.count
        until("traffic afterwards", lambda: load.count > count + 3 * CLIENTS, within=60)
    print(f"drained in {took:.0f} s, {during} requests meanwhile; {load.count} in all, slowest {load.slowest_s:.2f} s")
    assert [drain.returncode for drain in drains] == [0, 0], said
    assert load.failures == []
    assert not before & (_names(group) | _names(GATEWAYS))
    # One at a time, because of their budgets.
    assert all("would violate the pod's disruption budget" in text for text in said), said


def _drain(node: str, selector: str) -> "subprocess.Popen[str]":
    command = [
        "kubectl", "drain", node, f"--pod-selector={selector}", "--delete-emptydir-data", "--ignore-daemonsets",
        "--timeout=280s",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _group(model: str) -> str:
    """The worker group of a service's only revision."""
    namespace, _, name = model.partition("/")
    (revision,) = items("controllerrevisions", namespace, f"modelyard.dev/service={name}")
    return str(revision["data"]["workerGroup"]["groupName"])


def _pods(selector: str) -> list[dict[str, Any]]:
    return items("pods", SYSTEM, selector)


def _names(selector: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in _pods(selector)}


def _leaving(selector: str) -> bool:
    return any("deletionTimestamp" in pod["metadata"] for pod in _pods(selector))
