"""A ServingCluster that two namespaces share: what is wrong with one service is nobody else's business."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import SYSTEM, get, items, kubectl, make_serving_cluster, until
from e2e.conftest import RESIDENTS
from e2e.traffic import Load, post

if TYPE_CHECKING:
    from e2e.conftest import Maker, Resident

RULES = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations"
CRD = "modelservices.modelyard.dev"


@pytest.mark.timeout(420)
def test_the_good_ones_never_notice(make: "Maker", resident: "Resident") -> None:
    """One that serves and then cannot be read any more, one without its model, and one that may not be there."""
    odd = make("odd")
    odd.settled()
    with Load(resident.url, resident.body) as load, Load(make.url(odd), {**resident.body, "model": odd.model}) as odds:
        with _without_rules():
            until("the invalid spec to be taken", lambda: _made_invalid(odd.name, odd.namespace), within=30)
        odd.wait_reason("Accepted", "InvalidSpec")
        make_serving_cluster(RESIDENTS, "private")
        refused = make("refused", servingCluster={"name": "private", "namespace": RESIDENTS})
        broken = make("broken", "pvc://models/no-such-model")
        newcomer = make("newcomer")
        told = refused.wait_reason("Accepted", "NamespaceNotAllowed", within=30)
        assert make.namespace in told["message"]
        kubectl("delete", "servingcluster", "private", "-n", RESIDENTS, "--wait=false")
        broken.wait_reason("Degraded", "ModelNotFound")
        newcomer.wait()
    assert load.failures == []
    assert odds.failures == []
    assert resident.service.condition("Available")["status"] == "True"


@pytest.mark.timeout(60)
def test_the_dashboard_wants_its_token(resident: "Resident") -> None:
    head = items("pods", SYSTEM, "ray.io/node-type=head")[0]
    status, _ = post(f"http://{head['status']['podIP']}:8265/api/serve/applications/", {"applications": []})
    assert status == 401


@contextmanager
def _without_rules() -> Iterator[None]:
    """As before the rules of a ModelService's fields were there."""
    found = get("crd", CRD)
    assert found is not None
    spec = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    _patch_crd({"op": "remove", "path": RULES})
    try:
        yield
    finally:
        _patch_crd({"op": "add", "path": RULES, "value": spec["x-kubernetes-validations"]})


def _patch_crd(operation: dict[str, Any]) -> None:
    kubectl("patch", "crd", CRD, "--type=json", "-p", json.dumps([operation]))


def _made_invalid(name: str, namespace: str) -> bool:
    """Whether replicas and autoscaling together were accepted."""
    change = json.dumps({"spec": {"replicas": 1, "autoscaling": {"maxReplicas": 2}}})
    kubectl("patch", "modelservice", name, "-n", namespace, "--type=merge", "-p", change, check=False)
    found = get("modelservice", name, namespace)
    return found is not None and "autoscaling" in found["spec"]
