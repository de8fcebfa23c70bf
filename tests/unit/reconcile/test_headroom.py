"""Updates that do not fit beside what serves: wait or take its place, with numbers, and never a second gap."""

from typing import Any

import pytest
from tests.unit.desired.samples import cluster_manifest, pool_manifest
from tests.unit.reconcile.world import GATEWAYS, SERVICE, World

from modelyard_operator.kube.client import LIMIT_RANGE, MODEL_SERVICE, RESOURCE_QUOTA, Manifest
from modelyard_operator.kube.errors import Forbidden
from modelyard_operator.reconcile.result import Key
from modelyard_serving.contract import FailureReason, failure_text

OTHER, BAD = "pvc://models/other", "pvc://models/bad"
NOT_FOUND = "RayTaskError: " + failure_text(FailureReason.MODEL_NOT_FOUND, "There is no folder /models/models/bad.")
REPLACE: Any = {"rollout": {"onNoHeadroom": "Replace"}}


@pytest.fixture
def full(world: World) -> World:
    """The pool has one worker."""
    world.kube.put(pool_manifest(maxWorkers=1))
    return world


def quota(**hard: str) -> Manifest:
    named = {key.replace("__", "."): text for key, text in hard.items()}
    metadata = {"name": "team", "namespace": "models"}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": named}}


async def turns(world: World, count: int) -> None:
    for _ in range(count):
        await world.turn()


def plan(world: World) -> list[str]:
    manifest = world.kube.find(MODEL_SERVICE, SERVICE.name, namespace=SERVICE.namespace)
    assert manifest is not None
    return [step["step"] for step in manifest["status"].get("plan") or []]


async def test_an_update_without_room_waits_says_so_and_goes_on_by_itself(full: World) -> None:
    full.apply_service()
    await full.settle()
    before, applications = full.revisions, full.applications
    full.apply_service(OTHER)
    await full.settle()
    assert (full.revisions, full.applications) == (before, applications)
    conditions = full.conditions()
    assert conditions["Progressing"] == ("True", "NoHeadroom")
    assert conditions["Available"] == conditions["Ready"] == ("True", "Serving")
    assert "AcceleratorPool cpu has 1 of 1 workers in use" in full.message("Progressing")
    assert "1 more worker cpu/small (1 cpu, 2Gi memory)" in full.message("Progressing")
    assert plan(full)[0] == "wait for room"
    full.kube.put(pool_manifest(maxWorkers=2))
    await full.settle()
    assert full.revisions.keys() != before.keys()
    assert full.conditions()["Progressing"] == ("False", "Complete")
    assert plan(full) == []


@pytest.mark.parametrize("policy", ["Wait", "Replace"])
async def test_the_limits_of_a_pool_over_all_clusters_count(world: World, policy: str) -> None:
    world.kube.put(pool_manifest(limits={"maxWorkersPerNamespace": 1}))
    rollout: Any = {"rollout": {"onNoHeadroom": policy}}
    world.apply_service(**rollout)
    await world.settle()
    before = world.revisions
    world.apply_service(OTHER, **rollout)
    await world.settle()
    if policy == "Replace":
        assert world.revisions.keys() != before.keys()
        assert world.conditions()["Ready"] == ("True", "Serving")
        return
    assert world.revisions == before
    assert world.conditions()["Progressing"] == ("True", "NoHeadroom")
    assert "spec.limits of AcceleratorPool cpu leave 0 more" in world.message("Progressing")
    world.kube.put(pool_manifest(limits={"maxWorkersPerNamespace": 2}))
    await world.settle()
    assert world.conditions()["Progressing"] == ("False", "Complete")


async def test_what_waits_writes_nothing(full: World) -> None:
    full.apply_service()
    await full.settle()
    full.apply_service(OTHER)
    await full.settle()
    writes, puts = len(full.kube.writes), len(full.serve.puts)
    await turns(full, 10)
    assert (full.kube.writes[writes:], full.serve.puts[puts:]) == ([], [])


async def test_what_waits_looks_again_though_nobody_wakes_it(full: World) -> None:
    full.apply_service()
    await full.settle()
    assert (await full.service_loop.reconcile(SERVICE)).requeue_after_s is None
    full.apply_service(OTHER)
    assert (await full.service_loop.reconcile(SERVICE)).requeue_after_s == 5.0


async def test_replace_refuses_first_and_never_runs_more_than_fits(full: World) -> None:
    full.apply_service(**REPLACE)
    await full.settle()
    (old,) = full.applications
    full.apply_service(OTHER, **REPLACE)
    refused, phases = 0, []
    for _ in range(60):
        await full.turn()
        reasons = [refusal.reason for refusal in full.document.refusals]
        assert set(reasons) <= {"Replacing"}
        assert list(full.applications.values()).count("RUNNING") <= 1, "there is one worker"
        if reasons:
            refused += 1
            phases.append(full.conditions()["Progressing"][1])
        else:
            (route,) = full.document.routes
            assert full.applications[route.prefix.removeprefix("/_r/").replace("/", ".")] == "RUNNING"
    await full.settle()
    assert refused > 0
    assert old not in full.applications
    assert list(full.revisions.values()) == ["Active"]
    assert "Replacing" in phases
    assert full.conditions()["Ready"] == ("True", "Serving")


async def test_what_makes_place_serves_until_every_gateway_refuses(full: World) -> None:
    full.apply_service(**REPLACE)
    await full.settle()
    (old,) = full.applications
    full.deaf = {GATEWAYS[1]}
    full.apply_service(OTHER, **REPLACE)
    await turns(full, 20)
    assert full.applications == {old: "RUNNING"}
    assert list(full.revisions.values()) == ["Yielding"]
    assert plan(full)[0] == "stop the requests at the gateways"
    full.deaf = set()
    await full.settle()
    assert old not in full.applications


async def test_of_several_replicas_one_part_after_the_other_makes_place(world: World) -> None:
    world.kube.put(pool_manifest(maxWorkers=3))
    world.apply_service(replicas=3, **REPLACE)
    await world.settle()
    (old,) = world.applications
    world.apply_service(OTHER, replicas=3, **REPLACE)
    sizes = set()
    for _ in range(40):
        await world.turn()
        assert world.document.refusals == ()
        new = [name for name in world.applications if name != old]
        if new and old in world.applications and "Candidate" in world.revisions.values():
            sizes.add((world.serve.target(old), world.serve.target(new[0])))
    await world.settle()
    assert (2, 1) in sizes
    (application,) = world.applications
    assert application != old
    assert world.serve.target(application) == 3


@pytest.mark.parametrize("replicas", [1, 3])
async def test_what_does_not_start_in_its_place_gives_it_back_for_good(world: World, replicas: int) -> None:
    world.kube.put(pool_manifest(maxWorkers=replicas))
    world.apply_service(replicas=replicas, **REPLACE)
    await world.settle()
    before = world.revisions
    world.broken = {BAD: NOT_FOUND}
    world.apply_service(BAD, replicas=replicas, **REPLACE)
    await turns(world, 60)
    gaps, was = 0, False
    for _ in range(400):
        refused = bool(world.document.refusals)
        gaps, was = gaps + (refused and not was), refused
        await world.turn()
    assert gaps == 0, "one gap was enough"
    assert world.revisions == before
    (application,) = world.applications
    assert world.serve.target(application) == replicas
    conditions = world.conditions()
    assert conditions["Available"] == ("True", "Serving")
    assert conditions["Progressing"] == ("False", "Failed")
    assert conditions["Degraded"] == ("True", "ModelNotFound")
    assert "There is no folder /models/models/bad." in world.message("Degraded")
    world.apply_service(OTHER, replicas=replicas, **REPLACE)
    await world.settle()
    assert world.revisions.keys() != before.keys()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_what_never_comes_up_gives_the_place_back_after_a_while(full: World) -> None:
    full.apply_service(**REPLACE)
    await full.settle()
    (old,) = full.revisions
    (head,) = {address for address, _ in full.proofs if address.endswith(".1:8000") and address.startswith("10.2.")}
    full.proof_failures = {head: "500: NaN in the logits"}
    full.apply_service(OTHER, **REPLACE)
    seconds = 0
    while full.revisions.get(old) != "Candidate":
        await full.turn()
        seconds += 1
        assert seconds < 700
    assert seconds > 590
    full.proof_failures = {}
    await full.settle()
    assert full.revisions == {old: "Active"}
    assert full.conditions()["Available"] == ("True", "Serving")
    assert full.conditions()["Progressing"] == ("False", "Failed")


async def test_an_operator_that_dies_anywhere_while_it_replaces_ends_the_same(full: World) -> None:
    for after in range(1, 14):
        world = World()
        world.kube.put(pool_manifest(maxWorkers=1))
        world.apply_service(**REPLACE)
        await world.settle()
        world.apply_service(OTHER, **REPLACE)
        await world.settle_and_die(after)
        await world.settle()
        assert list(world.revisions.values()) == ["Active"]
        (route,) = world.document.routes
        assert world.applications == {route.prefix.removeprefix("/_r/").replace("/", "."): "RUNNING"}


async def test_two_updates_do_not_count_on_the_same_worker(world: World) -> None:
    world.kube.put(pool_manifest(maxWorkers=3))
    for name in ("one", "two"):
        world.apply_service(name=name)
    await world.settle()
    for name in ("one", "two"):
        world.apply_service(OTHER, name=name)
    for manifest in world.kube.all(MODEL_SERVICE):
        key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        await world.service_loop.reconcile(key)
    assert sorted(world.revisions.values()) == ["Active", "Active", "Candidate"]
    await world.settle()
    assert list(world.revisions.values()) == ["Active", "Active"]


async def test_what_serves_nothing_is_not_in_the_way_of_its_own_correction(full: World) -> None:
    full.apply_service()
    await full.settle()
    (application,) = full.applications
    full.broken = {"pvc://models/smollm2": NOT_FOUND}
    full.serve.states[application] = "DEPLOY_FAILED"
    full.apply_service(OTHER)
    await full.settle()
    assert full.conditions()["Ready"] == ("True", "Serving")
    assert application not in full.applications


async def test_a_quota_is_told_with_numbers_and_waited_for(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.kube.put({**quota(pods="3"), "status": {"hard": {"pods": "3"}, "used": {"pods": "3"}}})
    world.apply_service(OTHER)
    await world.settle()
    assert world.conditions()["Progressing"] == ("True", "NoHeadroom")
    assert "ResourceQuota team leaves pods 0 of 3" in world.message("Progressing")
    world.kube.remove(RESOURCE_QUOTA, "team", namespace="models")
    await world.settle()
    assert world.conditions()["Progressing"] == ("False", "Complete")


async def test_limits_that_no_worker_satisfies_are_told_before_anything_is_made(world: World) -> None:
    item: dict[str, Any] = {"type": "Container", "max": {"memory": "1Gi"}}
    metadata = {"name": "small-only", "namespace": "models"}
    world.kube.put({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [item]}})
    world.apply_service()
    await world.settle()
    assert world.conditions()["Accepted"] == ("False", "ExceedsNamespaceLimits")
    assert "LimitRange small-only allows at most 1Gi memory" in world.message("Accepted")
    assert world.revisions == {}
    world.kube.remove(LIMIT_RANGE, "small-only", namespace="models")
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_limits_that_come_later_move_nothing_that_serves(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.kube.put(quota(pods="0"))
    await turns(world, 12)
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert world.conditions()["Accepted"] == ("True", "Accepted")


async def test_what_the_role_does_not_allow_to_see_bounds_nothing(world: World) -> None:
    for kind in (RESOURCE_QUOTA, LIMIT_RANGE):
        world.kube.fail("list", kind, Forbidden("no"), times=100)
    world.apply_service()
    await world.settle()
    world.apply_service(OTHER)
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_another_ray_cluster_needs_no_room_in_the_old_one(full: World) -> None:
    full.apply_service()
    await full.settle()
    full.kube.put(cluster_manifest(image="serving:other"))
    await full.settle()
    assert full.conditions()["Ready"] == ("True", "Serving")
    assert len(full.applications) == 1
