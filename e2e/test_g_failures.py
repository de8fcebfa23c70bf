"""What goes wrong below a service is told in its own status, and heals when the cause is gone."""

import os
import signal
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import (
    SYSTEM,
    items,
    kubectl,
    make_pool,
    make_serving_cluster,
    pod_processes,
    replica_processes,
    until,
)
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.conftest import Maker, Resident


@pytest.mark.timeout(420)
def test_one_cause_after_the_other_is_told(make: "Maker") -> None:
    """KubeRay is not there, then an image is not there, then the runtime lacks the replica's code: each is told, and
    what heals it shows the next."""
    kubectl("scale", "deployment", "-n", "kuberay-system", "kuberay-operator", "--replicas=0")
    try:
        make_serving_cluster(make.namespace, "own", image="localhost/modelyard-serving:no-such-tag")
        service = make("unlucky", servingCluster={"name": "own"})
        told = service.wait_reason("Degraded", "KubeRayAbsent", within=120)
        assert "KubeRay" in told["message"]
    finally:
        kubectl("scale", "deployment", "-n", "kuberay-system", "kuberay-operator", "--replicas=1")
    told = service.wait_reason("Degraded", "ImageNotFound", within=120)
    assert "no-such-tag" in told["message"]
    assert "spec.runtime.image" in told["message"]
    package = "/tmp/shadow/modelyard_serving"  # noqa: S108 - in the pod
    make_serving_cluster(make.namespace, "own", env=[{"name": "PYTHONPATH", "value": package.rpartition("/")[0]}])
    head = until("the head to run", lambda: _running_head(make.namespace), within=150)
    shadow = f"mkdir -p {package} && echo 'import no_such_module' > {package}/__init__.py"
    kubectl("exec", "-n", make.namespace, head, "-c", "ray-head", "--", "sh", "-c", shadow)
    told = service.wait_reason("Degraded", "ImportFailed", within=120)
    assert "no_such_module" in told["message"]


def _running_head(namespace: str) -> str | None:
    for pod in items("pods", namespace, "ray.io/node-type=head"):
        if any(c["name"] == "ray-head" and "running" in c["state"] for c in pod["status"].get("containerStatuses", [])):
            return str(pod["metadata"]["name"])
    return None


@pytest.mark.timeout(400)
@pytest.mark.skipif("MODELYARD_E2E_MODELS" not in os.environ, reason="ends a process of the one-node cluster")
def test_a_head_whose_autoscaler_ends_is_replaced(resident: "Resident") -> None:
    """KubeRay would leave it for ever: Ray's own container runs on."""
    before, replicas = heads(), replica_processes(resident.service.model)
    with Load(resident.url, resident.body) as load:
        for pid in pod_processes("ray kuberay-autoscaler"):
            os.kill(pid, signal.SIGKILL)
        resident.service.wait_reason("Degraded", "AutoscalerGone", "HeadGone", within=60)
        until("another head", lambda: heads() - before, within=60)
        resident.service.wait(within=240)
        until("nothing to be wrong", lambda: resident.service.condition("Degraded")["status"] == "False", within=120)
    assert load.failures == []
    assert replica_processes(resident.service.model) == replicas, "no model is loaded anew"


def heads() -> set[str]:
    """The heads of the default ServingCluster, by uid."""
    return {pod["metadata"]["uid"] for pod in items("pods", SYSTEM, "ray.io/node-type=head")}


@pytest.mark.timeout(400)
def test_a_worker_killed_by_its_memory_limit_is_told(make: "Maker") -> None:
    """A pool whose workers are too small for Ray itself: the container is killed, and the status says by what."""
    make_pool("cramped", shapes=[{"name": "tiny", "cpu": "50m", "memory": "160Mi"}])
    try:
        service = make("cramped", accelerator={"pool": "cramped"})
        told = service.wait_reason("Degraded", "OutOfMemory", within=240)
        assert "memory" in told["message"]
    finally:
        service.delete()
        kubectl("delete", "apool", "cramped")


@pytest.mark.timeout(300)
def test_no_node_fits(make: "Maker", platform: str) -> None:
    """A worker that no node can take: the scheduler's numbers are in the status."""
    make_pool("vast", shapes=[{"name": "vast", "cpu": "50m", "memory": "900Gi"}])
    try:
        service = make("vast", accelerator={"pool": "vast"})
        told = service.wait_reason("Degraded", "NoNodeFits", within=120)
        assert "Insufficient memory" in told["message"]
    finally:
        service.delete()
        kubectl("delete", "apool", "vast")


@pytest.mark.timeout(240)
@pytest.mark.skipif("MODELYARD_E2E_MODELS" not in os.environ, reason="stops a process of the one-node cluster")
def test_an_operator_that_hangs_is_started_anew(platform: str) -> None:
    """Nothing in it moves any more: the kubelet's probe fails, and the container starts anew.

    That a single loop that hangs fails the probe is seen in tests/contract/test_operator_process.py.
    """
    before = operator_pids()
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    until("the kubelet to start the operator anew", lambda: operator_pids() - before, within=150)


def operator_pids() -> set[int]:
    """The operator's processes."""
    return pod_processes("python -P -m modelyard_operator$")
