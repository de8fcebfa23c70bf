"""The guards of a ServingCluster's Ray pods come, follow, go, and never stand in the way of serving."""

from datetime import timedelta

import pytest
from tests.unit.desired.samples import pool_manifest
from tests.unit.reconcile.world import CLUSTER, World

from modelyard_operator.kube.client import DISRUPTION_BUDGET, NETWORK_POLICY, POD, RAY_CLUSTER, SERVING_CLUSTER, Kind
from modelyard_operator.kube.errors import Forbidden, Invalid, KubeError


def names(world: World, kind: Kind) -> list[str]:
    return [m["metadata"]["name"] for m in world.kube.all(kind)]


def scale(world: World, replicas: int) -> None:
    """As Ray's autoscaler does."""
    (live,) = world.kube.all(RAY_CLUSTER)
    live["spec"]["workerGroupSpecs"][0]["replicas"] = replicas
    world.kube.put(live)


async def test_a_budget_follows_the_size_of_its_group(world: World) -> None:
    world.apply_service()
    await world.settle()
    assert names(world, DISRUPTION_BUDGET) == ["shared-redis"]
    for replicas in (2, 5):
        scale(world, replicas)
        await world.settle()
        (budget,) = [each for each in world.kube.all(DISRUPTION_BUDGET) if each["metadata"]["name"] != "shared-redis"]
        assert budget["spec"]["minAvailable"] == replicas - 1
    scale(world, 1)
    await world.settle()
    assert names(world, DISRUPTION_BUDGET) == ["shared-redis"]


async def test_guards_are_asked_for_twice_a_minute_at_rest(world: World) -> None:
    world.apply_service()
    await world.settle()

    async def asked() -> int:
        before = len(world.kube.requests)
        await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
        new = world.kube.requests[before:]
        return sum(each.kind in ("NetworkPolicy", "PodDisruptionBudget") for each in new)

    assert [await asked(), await asked()] == [0, 0]
    world.now += timedelta(seconds=30)
    assert [await asked(), await asked()] == [2, 0]


async def test_the_policy_is_restored_and_goes_when_it_is_turned_off(world: World) -> None:
    world.apply_service()
    await world.settle()
    (policy,) = world.kube.all(NETWORK_POLICY)
    world.kube.put({**policy, "spec": {**policy["spec"], "ingress": [{}]}})
    world.now += timedelta(seconds=30)
    await world.settle()
    assert world.kube.all(NETWORK_POLICY)[0]["spec"] == policy["spec"]
    world.settings = world.settings.model_copy(update={"network_policies": False})
    world.start_operator()
    await world.settle()
    assert names(world, NETWORK_POLICY) == []


@pytest.mark.parametrize("error", [Invalid("no"), Forbidden("no")], ids=["invalid", "forbidden"])
async def test_a_refused_guard_is_told_and_models_serve_all_the_same(world: World, error: KubeError) -> None:
    world.kube.fail("apply", NETWORK_POLICY, error, times=1000)
    world.apply_service()
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("True", "ConfigRefused")
    assert "NetworkPolicy" in world.message("Degraded", SERVING_CLUSTER, CLUSTER)


async def test_a_worker_that_leaves_is_counted_on_top_of_the_limit(world: World) -> None:
    """KubeRay counts it until it is gone: within the limit its replacement could not come first."""
    world.apply_service()
    await world.settle()
    limit = world.kube.all(RAY_CLUSTER)[0]["spec"]["workerGroupSpecs"][0]["maxReplicas"]
    (worker,) = [p for p in world.kube.all(POD) if p["metadata"]["labels"].get("ray.io/node-type") == "worker"]
    leaving = {**worker["metadata"], "name": "leaving", "deletionTimestamp": world.now.isoformat()}
    world.kube.put({**worker, "metadata": leaving, "spec": {"containers": [{"lifecycle": {"preStop": {"exec": {}}}}]}})
    await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
    assert world.kube.all(RAY_CLUSTER)[0]["spec"]["workerGroupSpecs"][0]["maxReplicas"] == limit + 1
    # While it leaves its replicas move, so the loop looks often.
    assert (await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)).requeue_after_s == 1
    await world.settle()
    assert world.kube.all(RAY_CLUSTER)[0]["spec"]["workerGroupSpecs"][0]["maxReplicas"] == limit


async def test_a_limit_that_is_lowered_takes_no_busy_worker(world: World) -> None:
    """Ray's autoscaler takes workers down, busy or not, while a group has more than it may have."""
    world.apply_service(replicas=3)
    await world.settle()
    world.kube.put(pool_manifest(maxWorkers=1))
    await world.settle()
    assert world.kube.all(RAY_CLUSTER)[0]["spec"]["workerGroupSpecs"][0]["maxReplicas"] == 3
    world.apply_service(replicas=2)
    await world.settle()
    assert world.kube.all(RAY_CLUSTER)[0]["spec"]["workerGroupSpecs"][0]["maxReplicas"] == 2
