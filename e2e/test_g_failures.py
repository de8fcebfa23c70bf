"""What goes wrong below a service is told in its own status, and heals when the cause is gone."""

import os
import signal
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import SYSTEM, apply, get, items, kubectl, run, until
from e2e.traffic import post

if TYPE_CHECKING:
    from e2e.conftest import Maker

CLUSTER = {
    "apiVersion": "modelyard.dev/v1alpha1",
    "kind": "ServingCluster",
    "spec": {"head": {"cpu": "50m", "memory": "2Gi"}},
}


def _cluster(namespace: str, name: str, **runtime: object) -> None:
    spec = {**CLUSTER["spec"], "runtime": {"volumes": [{"claim": "models"}], **runtime}}  # type: ignore[dict-item]
    apply({**CLUSTER, "metadata": {"name": name, "namespace": namespace}, "spec": spec})


@pytest.mark.timeout(300)
def test_kuberay_absent(make: "Maker") -> None:
    """Without KubeRay's operator nothing takes up a new RayCluster: the condition says so, and it heals."""
    kubectl("scale", "deployment", "-n", "kuberay-system", "kuberay-operator", "--replicas=0")
    try:
        _cluster(make.namespace, "own")
        service = make("waiting", servingCluster={"name": "own"})
        told = service.wait_reason("Degraded", "KubeRayAbsent", within=120)
        assert "KubeRay" in told["message"]
    finally:
        kubectl("scale", "deployment", "-n", "kuberay-system", "kuberay-operator", "--replicas=1")
    until("the head to come up", lambda: _scl_ready(make.namespace, "own"), within=150)


def _scl_ready(namespace: str, name: str) -> bool:
    found = get("servingcluster", name, namespace) or {}
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found.get("status", {}).get("conditions", []))


@pytest.mark.timeout(300)
def test_image_not_found_and_corrected(make: "Maker") -> None:
    _cluster(make.namespace, "own", image="localhost/modelyard-serving:no-such-tag")
    service = make("imageless", servingCluster={"name": "own"})
    told = service.wait_reason("Degraded", "ImageNotFound", within=90)
    assert "no-such-tag" in told["message"]
    assert "spec.runtime.image" in told["message"]
    _cluster(make.namespace, "own")
    until("the corrected cluster", lambda: _scl_ready(make.namespace, "own"), within=150)


@pytest.mark.timeout(400)
def test_ray_head_gone(make: "Maker") -> None:
    service = make("headless")
    service.wait(within=300)
    heads = items("pods", SYSTEM, "ray.io/node-type=head")
    kubectl("delete", "pod", "-n", SYSTEM, heads[0]["metadata"]["name"], "--grace-period=0", "--force")
    service.wait_reason("Degraded", "HeadGone", within=30)
    service.wait(within=240)
    status, answer = post(make.url(service), {"model": service.model, "prompt": "The", "max_tokens": 2})
    assert status == 200, answer


@pytest.mark.timeout(400)
def test_a_worker_killed_by_its_memory_limit_is_told(make: "Maker") -> None:
    """A pool whose workers are too small for Ray itself: the container is killed, and the status says by what."""
    apply(
        {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": "AcceleratorPool",
            "metadata": {"name": "cramped"},
            "spec": {"device": "cpu", "shapes": [{"name": "tiny", "cpu": "50m", "memory": "260Mi"}]},
        }
    )
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
    apply(
        {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": "AcceleratorPool",
            "metadata": {"name": "vast"},
            "spec": {"device": "cpu", "shapes": [{"name": "vast", "cpu": "50m", "memory": "900Gi"}]},
        }
    )
    try:
        service = make("vast", accelerator={"pool": "vast"})
        told = service.wait_reason("Degraded", "NoNodeFits", within=120)
        assert "Insufficient memory" in told["message"]
    finally:
        service.delete()
        kubectl("delete", "apool", "vast")


@pytest.mark.timeout(300)
def test_code_that_fails_to_import(make: "Maker") -> None:
    """A runtime image without the replica's code: Ray starts, the application cannot be imported."""
    _cluster(make.namespace, "own", env=[{"name": "PYTHONPATH", "value": "/tmp/shadow"}])  # noqa: S108 - in the pod
    until("the cluster", lambda: _scl_ready(make.namespace, "own"), within=150)
    heads = items("pods", make.namespace, "ray.io/node-type=head")
    package = "/tmp/shadow/modelyard_serving"  # noqa: S108 - in the pod
    shadow = f"mkdir -p {package} && echo 'import no_such_module' > {package}/__init__.py"
    kubectl("exec", "-n", make.namespace, heads[0]["metadata"]["name"], "-c", "ray-head", "--", "sh", "-c", shadow)
    service = make("broken", servingCluster={"name": "own"})
    told = service.wait_reason("Degraded", "ImportFailed", within=120)
    assert "no_such_module" in told["message"]


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
    """The operator's processes, as this machine sees them."""
    return {int(pid) for pid in run("pgrep", "-f", "python -P -m modelyard_operator$", check=False).split()}
