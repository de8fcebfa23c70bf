"""Placement in a pool of GPUs, on a node that claims to have some."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import REPOSITORY, apply, items, kubectl, run, until

if TYPE_CHECKING:
    from e2e.conftest import Maker

POOL = {
    "apiVersion": "modelyard.dev/v1alpha1",
    "kind": "AcceleratorPool",
    "metadata": {"name": "l4"},
    "spec": {
        "device": "cuda",
        "resourceName": "nvidia.com/gpu",
        "nodeSelector": {"gpu": "l4"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "shapes": [{"name": "one", "accelerators": 1, "cpu": "100m", "memory": "2Gi"}],
    },
}


@pytest.fixture
def gpu_pool(platform: str) -> Iterator[None]:
    hack = str(REPOSITORY / "hack/cluster")
    gpus = ("fake-gpu", "--resource", "nvidia.com/gpu", "--count", "2", "--label", "gpu=l4")
    run(hack, *gpus)
    apply(POOL)
    yield
    kubectl("delete", "apool", "l4", "--ignore-not-found")
    run(hack, *gpus, "--remove")


@pytest.mark.timeout(300)
@pytest.mark.skipif("MODELYARD_E2E_MODELS" not in os.environ, reason="fakes a GPU on the one-node cluster only")
def test_a_worker_on_a_gpu_node(make: "Maker", gpu_pool: None) -> None:
    service = make("accelerated", accelerator={"pool": "l4", "count": 1})

    def worker() -> dict[str, Any] | None:
        pods = items("pods", "modelyard-system", "ray.io/node-type=worker")
        return next((p for p in pods if p["metadata"]["labels"]["ray.io/group"].startswith("l4-")), None)

    pod = until("a worker of the pool", worker, within=120)
    spec = pod["spec"]
    assert spec["nodeSelector"] == {"gpu": "l4"}
    assert any(t.get("key") == "nvidia.com/gpu" for t in spec["tolerations"])
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    # The node has no GPU in truth: the replica was promised one and must say so instead of computing on the CPU.
    told = service.wait_reason("Degraded", "AcceleratorMissing", within=150)
    assert "GPU" in told["message"] or "cuda" in told["message"].lower()


@pytest.mark.timeout(60)
def test_what_cannot_fit_is_refused_at_once(make: "Maker", gpu_pool: None) -> None:
    service = make("greedy", accelerator={"pool": "l4"}, resources={"memory": "64Gi"})
    told = service.wait_reason("Accepted", "NoShapeFits", within=10)
    assert "64Gi" in told["message"]
    assert "2Gi" in told["message"]
