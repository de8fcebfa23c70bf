"""What the chart runs before it is uninstalled, against the real API server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.contract.manifests import cluster, service
from tests.kubectl import Kubectl

FINALIZERS = "modelservices,servingclusters"


@pytest.fixture
def namespaces(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Two namespaces; what is left in them goes with force."""
    stem = request.node.name.replace("_", "-")[:60].rstrip("-")
    names = (f"{stem}-a", f"{stem}-b")
    for name in names:
        kubectl.must("create", "namespace", name)
    yield names
    for name in names:
        for each in kubectl.must("get", FINALIZERS, "-n", name, "-o", "name").out.split():
            _release(kubectl, name, each)
            kubectl("delete", each, "-n", name)


def _release(kubectl: Kubectl, namespace: str, what: str) -> None:
    patch = json.dumps({"metadata": {"finalizers": None}})
    kubectl.must("patch", what, "-n", namespace, "--type=merge", f"--patch={patch}")


def _started(kubectl: Kubectl, timeout: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "modelyard_operator.cleanup", f"--timeout={timeout}"]
    environment = os.environ | {"KUBECONFIG": str(kubectl.kubeconfig)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _create(kubectl: Kubectl, namespace: str, *, finalizer: bool) -> None:
    for manifest in (service(), cluster()):
        metadata = {"name": manifest["metadata"]["name"], "namespace": namespace}
        held = {"finalizers": ["modelyard.dev/operator"]} if finalizer else {}
        kubectl.must("create", "-f", "-", manifest=manifest | {"metadata": metadata | held})


def test_everything_goes_in_all_namespaces(kubectl: Kubectl, namespaces: tuple[str, str]) -> None:
    for namespace in namespaces:
        _create(kubectl, namespace, finalizer=False)
    done = _started(kubectl, "30s")
    _, error = done.communicate(timeout=40)
    assert done.returncode == 0, error
    assert kubectl.must("get", FINALIZERS, "--all-namespaces", "-o", "name").out == ""


def test_clusters_wait_for_services_and_what_is_left_is_named(kubectl: Kubectl, namespaces: tuple[str, str]) -> None:
    namespace = namespaces[0]
    _create(kubectl, namespace, finalizer=True)
    done = _started(kubectl, "3s")
    _, error = done.communicate(timeout=40)
    assert done.returncode == 1
    assert f"ModelService {namespace}/smollm2, ServingCluster {namespace}/shared" in error
    deleted = {
        each["kind"]: "deletionTimestamp" in each["metadata"]
        for each in kubectl.must("get", FINALIZERS, "-n", namespace, "-o", "json").json()["items"]
    }
    assert deleted == {"ModelService": True, "ServingCluster": False}


def test_it_ends_as_soon_as_the_operator_has_let_go(kubectl: Kubectl, namespaces: tuple[str, str]) -> None:
    namespace = namespaces[0]
    _create(kubectl, namespace, finalizer=True)
    done = _started(kubectl, "40s")
    for what in ("modelservice/smollm2", "servingcluster/shared"):
        kubectl.must("wait", "--for=jsonpath={.metadata.deletionTimestamp}", "--timeout=30s", what, "-n", namespace)
        _release(kubectl, namespace, what)
    _, error = done.communicate(timeout=40)
    assert done.returncode == 0, error
