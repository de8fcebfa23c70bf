"""At rest a ServingCluster costs one question to Ray Serve, and whatever changes is still found at the next look."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.unit.desired.samples import cluster_manifest, pool_manifest
from tests.unit.reconcile.world import CLUSTER, SERVICE, World

from modelyard_operator.kube.client import (
    CONTROLLER_REVISION,
    MODEL_SERVICE,
    POD,
    RAY_CLUSTER,
    SERVING_CLUSTER,
)
from modelyard_operator.reconcile import serving_cluster
from modelyard_operator.reconcile.tenants import Tenants, tenants_of

Change = Callable[[World], None]


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ServingClusters of which a look worked out what they should be."""
    names: list[str] = []

    async def counted(*args: object, **kwargs: object) -> Tenants:
        names.append(str(args[1]))
        return await tenants_of(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(serving_cluster, "tenants_of", counted)
    return names


async def look(world: World) -> float | None:
    return (await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)).requeue_after_s


async def resting(world: World, worked_out: list[str]) -> World:
    world.apply_service()
    await world.settle()
    await look(world)
    await look(world)
    worked_out.clear()
    assert await look(world) == 10
    assert worked_out == []
    return world


async def test_it_is_worked_out_anew_now_and_then(world: World, worked_out: list[str]) -> None:
    await resting(world, worked_out)
    world.now += timedelta(seconds=30)
    await look(world)
    assert worked_out == [str(CLUSTER)]
    world.now += timedelta(seconds=29)
    await look(world)
    assert worked_out == [str(CLUSTER)]
    world.now += timedelta(seconds=1)
    await look(world)
    await look(world)
    assert worked_out == [str(CLUSTER)] * 2


def put_by_somebody_else(world: World) -> None:
    (name,) = world.serve.configs
    world.serve.configs[name] = {**world.serve.configs[name], "route_prefix": "/elsewhere"}


def broken(world: World) -> None:
    (name,) = world.serve.states
    world.serve.states[name] = "UNHEALTHY"


def unreachable(world: World) -> None:
    world.serve.reachable = False


def scaled_by_its_owner(world: World) -> None:
    world.apply_service(replicas=3)


def ray_cluster_edited(world: World) -> None:
    (ray,) = world.kube.all(RAY_CLUSTER)
    ray["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = "8"
    world.kube.put(ray)


def ray_cluster_deleted(world: World) -> None:
    (ray,) = world.kube.all(RAY_CLUSTER)
    world.kube.remove(RAY_CLUSTER, ray["metadata"]["name"], namespace=CLUSTER.namespace)


def worker_gone(world: World) -> None:
    pod = next(each for each in world.kube.all(POD) if "ray.io/group" in each["metadata"]["labels"])
    world.kube.remove(POD, pod["metadata"]["name"], namespace=CLUSTER.namespace)


def cluster_edited(world: World) -> None:
    world.edit(cluster_manifest(env=[{"name": "A", "value": "b"}]))


def pool_edited(world: World) -> None:
    world.edit(pool_manifest(maxWorkers=77))


def revision_of_a_newer_release(world: World) -> None:
    (revision,) = world.kube.all(CONTROLLER_REVISION)
    metadata = {**revision["metadata"], "name": "newer", "uid": "newer"}
    world.kube.put({**revision, "metadata": metadata, "data": {**revision["data"], "schema": 99}})


def record_changed(world: World) -> None:
    world.app.records.forget(SERVICE)


def share_changed(world: World) -> None:
    world.app.pools.expect("cpu", (), world.now)


def forgotten(world: World) -> None:
    del world.app.views[CLUSTER]


@pytest.mark.parametrize(
    "change",
    [
        put_by_somebody_else,
        broken,
        unreachable,
        scaled_by_its_owner,
        ray_cluster_edited,
        ray_cluster_deleted,
        worker_gone,
        cluster_edited,
        pool_edited,
        revision_of_a_newer_release,
        record_changed,
        share_changed,
        forgotten,
    ],
)
async def test_whatever_changes_is_looked_at(world: World, worked_out: list[str], change: Change) -> None:
    await resting(world, worked_out)
    change(world)
    await look(world)
    assert worked_out[:1] == [str(CLUSTER)]


async def test_anothers_config_is_put_back_by_the_next_look(world: World, worked_out: list[str]) -> None:
    await resting(world, worked_out)
    (name,) = world.serve.configs
    before = world.serve.configs[name]
    put_by_somebody_else(world)
    await look(world)
    assert world.serve.configs[name] == before
    assert [reason for _, reason, _ in world.published][-1] == "DriftUndone"


async def test_what_changes_while_a_look_is_under_way_is_looked_at(world: World, worked_out: list[str]) -> None:
    await resting(world, worked_out)
    world.now += timedelta(seconds=31)
    details = world.serve.details

    async def meanwhile() -> object:
        cluster_edited(world)
        return await details()

    world.serve.details = meanwhile  # type: ignore[assignment, method-assign]
    await look(world)
    world.serve.details = details  # type: ignore[method-assign]
    worked_out.clear()
    await look(world)
    assert worked_out == [str(CLUSTER)]


async def test_it_does_not_rest_right_after_a_change(world: World, worked_out: list[str]) -> None:
    """What the last look saw goes into the next one: a second look must come to the same."""
    await resting(world, worked_out)
    (name,) = world.serve.states
    world.serve.messages[name] = "a replica is slow"
    for _ in range(3):
        await look(world)
    assert worked_out == [str(CLUSTER)] * 2


async def test_a_refused_application_is_tried_again(world: World, worked_out: list[str]) -> None:
    await resting(world, worked_out)
    world.serve.refuses_application = lambda each: each["deployments"][0].get("num_replicas") == 3
    world.apply_service(replicas=3)
    for _ in range(4):
        await look(world)
        world.now += timedelta(seconds=1)
    worked_out.clear()
    await look(world)
    assert worked_out == [str(CLUSTER)]


async def test_a_service_that_leaves_for_another_cluster_is_followed(world: World, worked_out: list[str]) -> None:
    await resting(world, worked_out)
    world.edit({**cluster_manifest(), "metadata": {"name": "other", "namespace": CLUSTER.namespace, "uid": "other"}})
    world.apply_service(servingCluster={"name": "other", "namespace": CLUSTER.namespace})
    for _ in range(3):
        await look(world)
    worked_out.clear()
    await look(world)
    assert world.kube.find(MODEL_SERVICE, SERVICE.name, namespace=SERVICE.namespace) is not None
    assert worked_out == [str(CLUSTER)]
