"""From a manifest to a service that answers, and on: edits, scale, suspension, deletion."""

from typing import Any

import pytest
from tests.unit.reconcile.world import CLUSTER, GATEWAYS, SERVICE, World

from modelyard_operator.kube.client import CONTROLLER_REVISION, MODEL_SERVICE, RAY_CLUSTER, SERVING_CLUSTER

OTHER = "pvc://models/other"


async def test_a_new_service_becomes_ready(world: World) -> None:
    world.apply_service()
    await world.settle()
    assert world.conditions() == {
        "Accepted": ("True", "Accepted"),
        "Available": ("True", "Serving"),
        "Progressing": ("False", "Complete"),
        "Degraded": ("False", "Healthy"),
        "Ready": ("True", "Serving"),
    }
    (route,) = world.document.routes
    assert route.path == "/team-a/smollm2"
    assert list(world.revisions.values()) == ["Active"]
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("True", "Serving")


async def test_what_is_at_rest_is_not_written_to(world: World) -> None:
    world.apply_service()
    await world.settle()
    requests, puts = len(world.kube.requests), len(world.serve.puts)
    for _ in range(5):
        await world.turn()
    assert {request.verb for request in world.kube.requests[requests:]} <= {"get", "list"}
    assert world.serve.puts[puts:] == []


async def test_a_restart_at_rest_writes_nothing(world: World) -> None:
    world.apply_service()
    await world.settle()
    writes, puts = len(world.kube.writes), len(world.serve.puts)
    world.start_operator()
    for _ in range(5):
        await world.turn()
    assert world.kube.writes[writes:] == []
    assert world.serve.puts[puts:] == []


async def test_an_edit_brings_the_new_revision_up_beside_the_old(world: World) -> None:
    world.apply_service()
    await world.settle()
    (old,) = world.applications
    world.apply_service(OTHER)
    served_by = set()
    for _ in range(25):
        await world.turn()
        served_by |= {route.prefix for route in world.document.routes}
        assert len(world.document.routes) == 1
        running = {name for name, state in world.applications.items() if state == "RUNNING"}
        (route,) = world.document.routes
        assert route.prefix.removeprefix("/_r/").replace("/", ".") in running
    assert len(served_by) == 2
    assert old not in world.applications
    assert list(world.revisions.values()) == ["Active"]
    assert world.conditions()["Ready"] == ("True", "Serving")


@pytest.mark.parametrize("silent", [False, True], ids=["one lags", "one does not say"])
async def test_the_old_revision_waits_for_every_gateway(world: World, silent: bool) -> None:
    world.apply_service()
    await world.settle()
    (old,) = world.applications
    world.deaf = {GATEWAYS[1]}
    if silent:
        world.gateways[GATEWAYS[1]] = None
    world.apply_service(OTHER)
    for _ in range(25):
        await world.turn()
    assert world.applications[old] == "RUNNING"
    assert sorted(world.revisions.values()) == ["Active", "Draining"]
    assert world.conditions()["Progressing"] == ("True", "SwitchingTraffic")
    world.deaf = set()
    await world.settle()
    assert old not in world.applications


async def test_replicas_follow_the_spec_without_a_new_revision(world: World) -> None:
    world.apply_service()
    await world.settle()
    before = list(world.revisions)
    world.apply_service(replicas=3)
    await world.settle()
    assert list(world.revisions) == before
    (application,) = world.applications
    assert world.serve.target(application) == 3
    assert world.message("Available") == "3 of 3 replicas serve."


async def test_a_service_at_zero_by_autoscaling_is_ready(world: World) -> None:
    world.apply_service(autoscaling={"minReplicas": 0, "maxReplicas": 4})
    await world.settle()
    (application,) = world.applications
    world.serve.replicas[application] = 0
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "ScaledToZero")
    (ray,) = world.kube.all(RAY_CLUSTER)
    assert len(ray["spec"]["workerGroupSpecs"]) == 1
    assert len(world.document.routes) == 1


@pytest.mark.parametrize(
    ("stop", "reason"), [({"suspend": True}, "Suspended"), ({"replicas": 0}, "Stopped")], ids=["suspend", "replicas"]
)
async def test_a_stopped_service_refuses_with_its_reason_and_comes_back_as_it_was(
    world: World, stop: dict[str, Any], reason: str
) -> None:
    world.apply_service()
    await world.settle()
    (before,) = world.revisions
    world.apply_service(**stop)
    await world.settle()
    assert world.conditions()["Ready"] == ("False", reason)
    assert [refusal.reason for refusal in world.document.refusals] == [reason]
    assert world.revisions == {before: "Stopped"}
    assert world.applications == {}
    world.apply_service()
    await world.settle()
    assert world.revisions == {before: "Active"}
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_requests_are_refused_before_the_application_of_a_deleted_service_goes(world: World) -> None:
    world.apply_service()
    await world.settle()
    (application,) = world.applications
    world.deaf = {*GATEWAYS}
    world.delete(MODEL_SERVICE, SERVICE)
    for _ in range(5):
        await world.turn()
        assert world.applications[application] == "RUNNING"
    world.deaf = set()
    for _ in range(8):
        await world.turn()
    assert world.kube.find(MODEL_SERVICE, "smollm2", namespace="team-a") is None
    assert world.kube.all(CONTROLLER_REVISION) == []
    assert world.applications == {}
    assert (world.document.routes, world.document.refusals) == ((), ())


async def test_a_gateway_that_never_answers_does_not_hold_a_deletion_for_ever(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.deaf = {*GATEWAYS}
    world.delete(MODEL_SERVICE, SERVICE)
    for _ in range(40):
        await world.turn()
    assert world.kube.find(MODEL_SERVICE, "smollm2", namespace="team-a") is None
    assert world.applications == {}


async def test_a_service_made_again_under_its_name_leaves_nothing_of_the_first(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.delete(MODEL_SERVICE, SERVICE)
    while world.kube.find(MODEL_SERVICE, "smollm2", namespace="team-a") is not None:
        await world.reconcile(MODEL_SERVICE, SERVICE, world.service_loop.reconcile)
        await world.routes.reconcile(SERVICE)
        world.step()
    manifest_uid = "another"
    world.apply_service(OTHER)
    recreated = world.kube.find(MODEL_SERVICE, "smollm2", namespace="team-a")
    assert recreated is not None
    world.kube.remove(MODEL_SERVICE, "smollm2", namespace="team-a")
    world.kube.put({**recreated, "metadata": {**recreated["metadata"], "uid": manifest_uid}})
    await world.settle()
    assert len(world.applications) == 1
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert len(world.kube.all(RAY_CLUSTER)[0]["spec"]["workerGroupSpecs"]) == 1
