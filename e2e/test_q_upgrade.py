"""Another release of the operator moves nothing; one edited service moves alone; another Ray moves all, unnoticed."""

import base64
import json
import os
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import (
    RELEASE,
    REPOSITORY,
    SYSTEM,
    Service,
    get,
    items,
    kubectl,
    operator_holds_the_lease,
    replica_processes,
    run,
    until,
)
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.conftest import Maker, Resident

NEXT = "localhost/modelyard-serving:next"
"""The serving image under the name that another release would give it."""


@pytest.mark.timeout(600)
@pytest.mark.skipif("MODELYARD_E2E_MODELS" not in os.environ, reason="names an image of the one-node cluster anew")
def test_operator_then_one_service_then_ray(make: "Maker", resident: "Resident") -> None:
    run(str(REPOSITORY / "hack/cluster"), "tag", "localhost/modelyard-serving:dev", NEXT)
    steady, edited = resident.service, make("edited")
    edited.settled(within=300)
    with (
        Load(resident.url, resident.body) as one,
        Load(make.url(edited), {**resident.body, "model": edited.model}) as other,
    ):
        before, replicas = _children(), replica_processes(steady.model)
        revision, first = steady.status["activeRevision"], edited.status["activeRevision"]
        _upgrade_operator()
        assert _children() == before

        edited.patch(requestTimeout="31m")
        until("the edited service to move", lambda: _moved(edited, first), within=200)
        assert steady.status["activeRevision"] == revision
        assert replica_processes(steady.model) == replicas
        assert _image(edited) == NEXT
        assert _image(steady) != NEXT
        assert _ray_cluster(edited) != _ray_cluster(steady), "workers of another Ray cannot join the head that runs"

        old, old_ray = edited.status["activeRevision"], _ray_cluster(steady)
        token = _token(old_ray)
        assert _dashboard(old_ray, token) == 200
        _patch_cluster(runtime={"image": NEXT, "rayVersion": "2.60.0"}, tokenGeneration=2)
        until("both on another RayCluster", lambda: _moved(steady, revision) and _moved(edited, old), within=300)
        until("the old RayClusters to go", lambda: len(items("rayclusters", SYSTEM)) == 1, within=240)
        new_ray = _ray_cluster(steady)
        assert _dashboard(new_ray, token) == 403
        assert _dashboard(new_ray, _token(new_ray)) == 200
        until("the old token to go", lambda: get("secret", old_ray, SYSTEM) is None, within=60)
        count = one.count + other.count
        until("more traffic", lambda: one.count + other.count > count + 100, within=60)
    assert one.failures == []
    assert other.failures == []


def _children() -> dict[str, str]:
    """What serves: pods by uid; RayClusters and revisions by how often they were written."""
    pods = {p["metadata"]["uid"]: "" for p in items("pods", SYSTEM, "ray.io/is-ray-node=yes")}
    written = [*items("rayclusters", SYSTEM), *items("controllerrevisions", labels="modelyard.dev/managed=true")]
    return pods | {o["metadata"]["uid"]: _version(o) for o in written}


def _version(manifest: dict[str, Any]) -> str:
    """KubeRay writes the RayCluster's status, Ray's autoscaler the sizes of its groups: those do not count."""
    if manifest["kind"] == "RayCluster":
        return ",".join(group["groupName"] for group in manifest["spec"].get("workerGroupSpecs") or [])
    return str(manifest["metadata"]["resourceVersion"])


def _upgrade_operator() -> None:
    """Another default image with another Ray, and other settings, until the new operator has looked at the cluster.

    The Ray in that image is the same in truth: KubeRay and the operator go by what they are told.
    """
    chart = str(REPOSITORY / "charts/modelyard")
    image = ("--set", f"serving.image={NEXT}", "--set", "serving.rayVersion=2.60.1")
    settings = (*image, "--set", "operator.resyncSeconds=301")
    run("helm", "upgrade", RELEASE, chart, "-n", SYSTEM, "--reuse-values", *settings, "--wait", "--timeout", "120s")
    until("the new operator to hold the Lease", operator_holds_the_lease, within=60)


def _patch_cluster(**spec: object) -> None:
    kubectl("patch", "servingcluster", "default", "-n", SYSTEM, "--type=merge", "-p", json.dumps({"spec": spec}))


def _token(ray_cluster: str) -> str:
    secret = get("secret", ray_cluster, SYSTEM)
    assert secret is not None
    return base64.b64decode(secret["data"]["auth_token"]).decode()


def _dashboard(ray_cluster: str, token: str) -> int:
    """The status that Ray's dashboard answers to a token."""
    (head,) = items("pods", SYSTEM, f"ray.io/cluster={ray_cluster},ray.io/node-type=head")
    url = f"http://{head['status']['podIP']}:8265/api/serve/applications/"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the head's
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _moved(service: Service, old: str) -> bool:
    status = service.status
    return status["activeRevision"] != old and len(status["revisions"]) == 1


def _image(service: Service) -> str:
    return str(_record(service)["image"])


def _ray_cluster(service: Service) -> str:
    return str(_record(service)["rayCluster"])


def _record(service: Service) -> dict[str, Any]:
    record = get("controllerrevision", f"{service.name}-{service.status['activeRevision']}", service.namespace)
    assert record is not None
    data: dict[str, Any] = record["data"]
    return data
