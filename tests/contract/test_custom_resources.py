"""What kubectl users do with our kinds: explain, list, scale, status, apply from several sides."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.manifests import cluster, cpu_pool, service
from tests.kubectl import Kubectl, Manifest

READY = {
    "type": "Ready",
    "status": "True",
    "reason": "Serving",
    "message": "2 replicas serve",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own. Nothing runs that would remove it, so its objects go by hand."""
    name = request.node.name.replace("_", "-")[:63].rstrip("-")
    kubectl.must("create", "namespace", name)
    yield name
    kubectl.must("delete", "modelservices,servingclusters", "--all", "-n", name)
    kubectl.must("delete", "acceleratorpools", "--all")


def _apply(kubectl: Kubectl, manifest: Manifest, *options: str, namespace: str) -> Any:
    here = manifest | {"metadata": {"name": manifest["metadata"]["name"]}}
    arguments = ("apply", "--server-side", "-n", namespace, "-f", "-", "-o", "json", *options)
    return kubectl.must(*arguments, manifest=here).json()


def _set_status(kubectl: Kubectl, what: str, status: Manifest, *, namespace: str) -> Any:
    patch = (
        "--subresource=status",
        "--type=merge",
        f"--patch={json.dumps({'status': status})}",
        "-o",
        "json",
    )
    return kubectl.must("patch", what, "-n", namespace, *patch).json()


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("msvc.spec.model.source.uri", "pvc://<claim>/<folder>"),
        ("msvc.spec.autoscaling", "Default: 8."),
        ("msvc.spec.requestTimeout", "Default: 1h."),
        ("scl.spec.runtime.volumes", "/models/<claim>"),
        ("apool.spec.shapes", "smallest shape that fits"),
        ("msvc.status.coldStart", "Reading the weights"),
    ],
)
def test_explain_teaches_the_field(kubectl: Kubectl, field: str, words: str) -> None:
    assert words in " ".join(kubectl.must("explain", field).out.split())


def test_kinds_go_by_short_names_and_one_category(kubectl: Kubectl) -> None:
    listed = kubectl.must("api-resources", "--api-group=modelyard.dev", "-o", "wide", "--no-headers").out
    rows = {line.split()[0]: line.split() for line in listed.splitlines()}
    assert {name: (row[1], row[3]) for name, row in rows.items()} == {
        "acceleratorpools": ("apool", "false"),
        "modelservices": ("msvc", "true"),
        "servingclusters": ("scl", "true"),
    }
    assert all(row[-1] == "modelyard" for row in rows.values())


def test_columns_of_a_service_tell_whether_where_which_and_how_many(kubectl: Kubectl, namespace: str) -> None:
    _apply(kubectl, service(replicas=2), namespace=namespace)
    status = {
        "conditions": [READY], "replicas": 2, "desiredReplicas": 3, "activeRevision": "0a1b2c3d",
        "workerShape": "cpu/small", "url": "http://gateway/ns/smollm2", "servingCluster": "platform/default",
    }  # fmt: skip
    _set_status(kubectl, "msvc/smollm2", status, namespace=namespace)
    head, row = kubectl.must("get", "msvc", "-n", namespace).out.splitlines()
    assert head.split() == ["NAME", "READY", "REPLICAS", "DESIRED", "REVISION", "WORKERS", "AGE"]
    assert row.split()[:-1] == ["smollm2", "True", "2", "3", "0a1b2c3d", "cpu/small"]
    wide = kubectl.must("get", "msvc", "-n", namespace, "-o", "wide").out.splitlines()[1]
    assert wide.endswith("2 replicas serve")
    assert wide.split()[7:10] == ["Serving", "platform/default", "http://gateway/ns/smollm2"]


def test_columns_of_clusters_and_pools(kubectl: Kubectl, namespace: str) -> None:
    _apply(kubectl, cluster(), namespace=namespace)
    _apply(kubectl, cpu_pool(), namespace=namespace)
    _set_status(kubectl, "scl/shared", {"services": 4, "workers": 3, "rayVersion": "2.60.0"}, namespace=namespace)
    head, row = kubectl.must("get", "scl", "-n", namespace).out.splitlines()
    assert head.split() == ["NAME", "READY", "SERVICES", "WORKERS", "RAY", "AGE"]
    assert row.split()[:-1] == ["shared", "4", "3", "2.60.0"]
    head, row = kubectl.must("get", "apool").out.splitlines()
    assert head.split() == ["NAME", "READY", "DEVICE", "NODES", "SERVICES", "WORKERS", "AGE"]
    assert row.split()[:2] == ["cpu", "cpu"]


def test_scale_writes_replicas_and_reads_status(kubectl: Kubectl, namespace: str) -> None:
    _apply(kubectl, service(replicas=1), namespace=namespace)
    status = {"replicas": 1, "selector": "modelyard.dev/service=smollm2"}
    _set_status(kubectl, "msvc/smollm2", status, namespace=namespace)
    path = f"/apis/modelyard.dev/v1alpha1/namespaces/{namespace}/modelservices/smollm2/scale"
    scale = kubectl.must("get", "--raw", path).json()
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 1, "selector": "modelyard.dev/service=smollm2"}
    kubectl.must("scale", "msvc/smollm2", "--replicas=3", "-n", namespace)
    spec = kubectl.must("get", "msvc/smollm2", "-n", namespace, "-o", "json").json()["spec"]
    assert spec["replicas"] == 3
    kubectl.must("scale", "msvc/smollm2", "--replicas=0", "-n", namespace)


def test_scale_of_an_autoscaled_service_is_refused_with_the_reason(kubectl: Kubectl, namespace: str) -> None:
    _apply(kubectl, service(autoscaling={"maxReplicas": 2}), namespace=namespace)
    answer = kubectl("scale", "msvc/smollm2", "--replicas=3", "-n", namespace)
    assert answer.code != 0
    assert "spec.replicas and spec.autoscaling exclude each other: keep one of them" in answer.error


def test_status_is_apart_from_the_spec(kubectl: Kubectl, namespace: str) -> None:
    before = _apply(kubectl, service(replicas=1), namespace=namespace)
    told = _set_status(kubectl, "msvc/smollm2", {"url": "http://gateway/a"}, namespace=namespace)
    assert told["metadata"]["generation"] == before["metadata"]["generation"]
    after = _apply(kubectl, service(replicas=2), namespace=namespace)
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert after["status"] == {"url": "http://gateway/a"}


def test_wait_sees_the_condition(kubectl: Kubectl, namespace: str) -> None:
    _apply(kubectl, service(), namespace=namespace)
    _set_status(kubectl, "msvc/smollm2", {"conditions": [READY]}, namespace=namespace)
    kubectl.must("wait", "--for=condition=Ready", "msvc/smollm2", "-n", namespace, "--timeout=5s")


def test_conditions_of_one_type_twice_are_refused(kubectl: Kubectl, namespace: str) -> None:
    _apply(kubectl, service(), namespace=namespace)
    patch = json.dumps({"status": {"conditions": [READY, READY]}})
    answer = kubectl(
        "patch", "msvc/smollm2", "-n", namespace, "--subresource=status", "--type=merge", f"--patch={patch}"
    )
    assert answer.code != 0
    assert "status.conditions[1]: Duplicate value" in answer.error


def test_apply_keeps_what_other_managers_own(kubectl: Kubectl, namespace: str) -> None:
    mine = cluster(env=[{"name": "MINE", "value": "1"}], volumes=[{"claim": "models"}])
    _apply(kubectl, mine, "--field-manager=platform", namespace=namespace)
    theirs = cluster(env=[{"name": "THEIRS", "value": "2"}], volumes=[{"claim": "more"}])
    _apply(kubectl, theirs, "--field-manager=team", namespace=namespace)
    again = _apply(
        kubectl,
        cluster(env=[{"name": "MINE", "value": "3"}]),
        "--field-manager=platform",
        namespace=namespace,
    )
    runtime = again["spec"]["runtime"]
    assert {each["name"]: each["value"] for each in runtime["env"]} == {"MINE": "3", "THEIRS": "2"}
    assert runtime["volumes"] == [{"claim": "more"}]


def test_an_unknown_status_field_is_dropped_and_not_stored(kubectl: Kubectl, namespace: str) -> None:
    _apply(kubectl, service(), namespace=namespace)
    told = _set_status(kubectl, "msvc/smollm2", {"replicas": 1, "mood": "good"}, namespace=namespace)
    assert told["status"] == {"replicas": 1}
