"""Both charts installed by Helm on the real API server, upgraded and uninstalled."""

from collections.abc import Iterator

import pytest
from tests.charts.chart import CHARTS, FULL, helm
from tests.kubectl import Kubectl

CRDS = ("modelservices.modelyard.dev", "servingclusters.modelyard.dev", "acceleratorpools.modelyard.dev")
NAMESPACE = "helm-test"
WHERE = ("--namespace", NAMESPACE)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """Where the charts are installed; what the test leaves is uninstalled."""
    kubectl("create", "namespace", NAMESPACE)
    yield NAMESPACE
    for release in ("modelyard", "modelyard-crds"):
        helm("uninstall", release, *WHERE, "--no-hooks", "--ignore-not-found", kubectl=kubectl)


def test_uninstalling_the_crds_keeps_them_and_installing_takes_them_up(kubectl: Kubectl, namespace: str) -> None:
    chart = str(CHARTS / "modelyard-crds")
    for _ in range(2):
        # The first time they were there before Helm was.
        done = helm("install", "modelyard-crds", chart, *WHERE, "--take-ownership", kubectl=kubectl)
        assert done.code == 0, done.error
        done = helm("uninstall", "modelyard-crds", *WHERE, kubectl=kubectl)
        assert done.code == 0, done.error
        kubectl.must("get", "crd", *CRDS)


def test_install_upgrade_uninstall(kubectl: Kubectl, namespace: str) -> None:
    chart = str(CHARTS / "modelyard")
    done = helm("install", "modelyard", chart, *WHERE, kubectl=kubectl)
    assert done.code == 0, done.error
    assert "KubeRay IS NOT THERE" in done.out
    assert "defaultServingCluster.runtime.volumes[0].claim=CLAIM" in done.out
    before = _generations(kubectl)
    assert helm("upgrade", "modelyard", chart, *WHERE, kubectl=kubectl).code == 0
    assert _generations(kubectl) == before
    values = FULL | {"metrics": {}}
    done = helm("upgrade", "modelyard", chart, *WHERE, values=values, kubectl=kubectl)
    assert done.code == 0, done.error
    pool = kubectl.must("get", "acceleratorpool", "cpu", "-o", "json").json()
    assert [shape["name"] for shape in pool["spec"]["shapes"]] == ["one"]
    done = helm("uninstall", "modelyard", *WHERE, "--no-hooks", kubectl=kubectl)
    assert done.code == 0, done.error
    assert kubectl.must("get", "modelyard", "-n", NAMESPACE, "-o", "name").out == ""


def test_a_second_release_is_refused(kubectl: Kubectl, namespace: str) -> None:
    chart = str(CHARTS / "modelyard")
    assert helm("install", "modelyard", chart, *WHERE, kubectl=kubectl).code == 0
    kubectl("create", "namespace", "helm-test-second")
    done = helm("install", "second", chart, "--namespace", "helm-test-second", kubectl=kubectl)
    assert done.code != 0
    assert "cannot be imported into the current release" in done.error


def _generations(kubectl: Kubectl) -> dict[str, int]:
    listed = kubectl.must("get", "deployments,servingclusters,acceleratorpools", *WHERE, "-o", "json").json()
    return {each["metadata"]["name"]: each["metadata"]["generation"] for each in listed["items"]}
