"""The gateway needs neither the operator nor the API server to go on."""

import os
import time
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import REPOSITORY, SYSTEM, items, kubectl, operator_holds_the_lease, run, until
from e2e.conftest import left_namespaces
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.conftest import Resident

MINUTE_S = 60
CONTROL_PLANE = ("apiserver", "controller-manager", "scheduler")
"""The last two would find the API server again by themselves, after up to half a minute each."""


@pytest.mark.timeout(420)
@pytest.mark.skipif("MODELYARD_E2E_MODELS" not in os.environ, reason="stops the control plane of the one-node cluster")
def test_a_minute_without_api_server_and_operator(resident: "Resident") -> None:
    hack = str(REPOSITORY / "hack/cluster")
    # A namespace controller that meets an API server which does not know all kinds yet leaves their objects behind.
    until("the namespaces of other tests to be gone", lambda: not left_namespaces(), within=120)
    with Load(resident.url, resident.body) as load:
        kubectl("scale", "deployment", "-n", SYSTEM, "modelyard-operator", "--replicas=0")
        until(
            "the operator to be gone",
            lambda: not items("pods", SYSTEM, "app.kubernetes.io/component=operator"),
            within=60,
        )
        for component in reversed(CONTROL_PLANE):
            run(hack, "stop", component)
        try:
            time.sleep(MINUTE_S)
        finally:
            for component in CONTROL_PLANE:
                run(hack, "start", component)
            kubectl("scale", "deployment", "-n", SYSTEM, "modelyard-operator", "--replicas=1")
        before = load.count
        until("traffic after the outage", lambda: load.count > before + 100, within=60)
    assert load.failures == []
    print(f"{load.count} requests, slowest {load.slowest_s:.2f} s")
    # By themselves the node's own ask the API server again after up to a minute, by client-go's back-off.
    for component in ("kubelet", "kube-proxy"):
        run(hack, "stop", component)
        run(hack, "start", component)
    until("an operator that holds the Lease", operator_holds_the_lease, within=180)
    resident.service.wait(within=120)


@pytest.mark.timeout(300)
def test_one_gateway_dies(resident: "Resident") -> None:
    """Requests that the dying gateway held may be lost; whoever asks next is answered by the other one."""
    gateways = items("pods", SYSTEM, "app.kubernetes.io/component=gateway")
    with Load(resident.url, resident.body) as load:
        until("some traffic", lambda: load.count > 50, within=60)
        kubectl("delete", "pod", "-n", SYSTEM, gateways[0]["metadata"]["name"], "--wait=false")
        before = load.count
        until("traffic without it", lambda: load.count > before + 100, within=60)
    assert load.failures == []
