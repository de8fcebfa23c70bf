"""When all services serve, the operator writes nothing but its Lease: neither to the API server nor to Ray."""

import json
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.charts.chart import NAMESPACE
from tests.contract import ray_in_memory
from tests.contract.manifests import cluster_with, cpu_pool, service
from tests.contract.test_operator_process import READY_REASON, SPACE, Operator, operator, until
from tests.kubectl import Kubectl

from modelyard_hack.layout import REPOSITORY, StateFolder

__all__ = ["operator"]

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:modelyard-operator"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
SERVICES = ("first", "second", "third")
RESYNC_S = 2
"""So often every loop looks, and so often all is listed."""
LOOKS = "modelyard_reconcile_seconds_count"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "rayclusters.ray.io"},
    "spec": {
        "group": "ray.io",
        "scope": "Namespaced",
        "names": {
            "plural": "rayclusters",
            "singular": "raycluster",
            "kind": "RayCluster",
            "listKind": "RayClusterList",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "status": OPEN,
                            "spec": OPEN
                            | {
                                "properties": {
                                    "authOptions": OPEN,
                                    "workerGroupSpecs": {
                                        "type": "array",
                                        "items": OPEN | {"properties": {"idleTimeoutSeconds": {"type": "integer"}}},
                                    },
                                }
                            },
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def kuberay(kubectl: Kubectl, operator: Operator) -> Iterator[None]:
    """The CRD of RayClusters, as far as the operator depends on it, while the test runs."""
    kubectl.must("apply", "-f", "-", manifest=CRD)
    kubectl.must("wait", "--for=condition=Established", "--timeout=20s", "crd/rayclusters.ray.io")
    until(lambda: kubectl("get", "rayclusters", "-A").code == 0, "RayClusters are served")
    yield
    operator.close()
    for what in ("controllerrevisions", "pods", "secrets", "poddisruptionbudgets", "networkpolicies"):
        kubectl.must("delete", what, "--all", "-n", SPACE, "--now")
    kubectl.must("delete", "crd/rayclusters.ray.io", "--timeout=30s")


def bring_up(kubectl: Kubectl) -> None:
    """As KubeRay and the kubelet do: the token and the head of the only RayCluster."""
    (ray,) = kubectl.must("get", "rayclusters", "-n", SPACE, "-o", "json").json()["items"]
    name, template = ray["metadata"]["name"], ray["spec"]["headGroupSpec"]["template"]
    kubectl.must("create", "secret", "generic", name, "-n", SPACE, "--from-literal=auth_token=bench")
    labels = {**template["metadata"]["labels"], "ray.io/cluster": name, "ray.io/node-type": "head"}
    pod = {"metadata": {"name": f"{name}-head", "namespace": SPACE, "labels": labels}, "spec": template["spec"]}
    kubectl.must("create", "-f", "-", manifest={"apiVersion": "v1", "kind": "Pod", **pod})
    at = "2026-01-01T00:00:00Z"
    ready = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]
    running = {"phase": "Running", "podIP": "10.2.0.1", "podIPs": [{"ip": "10.2.0.1"}], "conditions": ready}
    up = [
        {"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("HeadPodReady", "RayClusterProvisioned")
    ]
    for what, status in (
        (f"pod/{name}-head", running),
        (f"raycluster/{name}", {"conditions": up, "head": {"podIP": "10.2.0.1"}}),
    ):
        patch = json.dumps({"status": status})
        kubectl.must("patch", what, "-n", SPACE, "--subresource=status", "--type=merge", f"--patch={patch}")


def renewals(kubectl: Kubectl, count: int) -> None:
    """Return after so many more renewals of the operator's Lease."""
    for _ in range(count):
        until(partial(_is_renewed_since, kubectl, _renewed(kubectl)), "the Lease is renewed")


def _is_renewed_since(kubectl: Kubectl, before: str) -> bool:
    return _renewed(kubectl) != before


def _renewed(kubectl: Kubectl) -> str:
    return kubectl.must("get", "lease/modelyard-operator", "-n", NAMESPACE, "-o", "jsonpath={.spec.renewTime}").out


class Audit:
    """What the operator writes, as the API server's audit log has it; Leases are not in there."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._log = StateFolder(kubectl.kubeconfig.parents[1]).audit_log
        self._offset = self._log.stat().st_size

    def written(self) -> list[str]:
        """Since the last time."""
        with self._log.open("rb") as log:
            log.seek(self._offset)
            whole, ended, _ = log.read().rpartition(b"\n")
        self._offset += len(whole) + len(ended)
        asked = [entry for entry in map(json.loads, whole.splitlines()) if entry["user"]["username"] == ACCOUNT]
        assert asked, "the log has no request of the operator at all, so it says nothing about writes"
        return [f"{each['verb']} {each['requestURI']}" for each in asked if each["verb"] in WRITES]


def counted(operator: Operator, metric: str) -> dict[str, float]:
    """The lines of a metric of the operator."""
    lines = [line.rpartition(" ") for line in operator.metrics().splitlines() if line.startswith(metric)]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("kuberay")
def test_nothing_is_written_while_nothing_changes(kubectl: Kubectl, operator: Operator) -> None:
    operator.program = ["-m", ray_in_memory.__name__]
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    operator.environment |= {"MODELYARD_RESYNC_S": str(RESYNC_S), "PYTHONPATH": os.pathsep.join(paths)}
    operator.start()
    kubectl.must("create", "-f", "-", manifest=cpu_pool())
    shared = cluster_with(highAvailability=False, runtime={"volumes": [{"claim": "models"}]})
    for manifest in (shared, *(service(name=name, servingCluster={"name": "shared"}) for name in SERVICES)):
        here = {"name": manifest["metadata"]["name"], "namespace": SPACE}
        kubectl.must("create", "-f", "-", manifest=manifest | {"metadata": here})
    until(lambda: kubectl("get", "rayclusters", "-n", SPACE, "-o", "name").out != "", "there is a RayCluster")
    bring_up(kubectl)
    ready = ("get", "modelservices", "-n", SPACE, "-o", f"jsonpath={{range .items[*]}}{READY_REASON} {{end}}")
    until(lambda: kubectl(*ready).out.split() == ["Serving"] * len(SERVICES), "all serve", timeout_s=60)

    audit = Audit(kubectl)

    def rests() -> bool:
        renewals(kubectl, 2)
        return audit.written() == []

    until(rests, "it comes to rest", timeout_s=60)
    puts, looks = counted(operator, "modelyard_serve_puts_total"), counted(operator, LOOKS)
    assert puts
    renewals(kubectl, 4)
    assert audit.written() == []
    assert counted(operator, "modelyard_serve_puts_total") == puts
    for kind in ("ModelService", "ServingCluster", "AcceleratorPool", "Routes"):
        line = f'{LOOKS}{{kind="{kind}",outcome="ok"}}'
        assert counted(operator, LOOKS)[line] >= looks[line] + 2, f"meanwhile no loop of a {kind} looked"
