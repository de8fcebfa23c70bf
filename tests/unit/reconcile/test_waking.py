"""Who is woken by what was seen, how soon a loop looks again, and what is not read again and again."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.reconcile.world import CLUSTER, KUBERAY_CRD, SERVICE, World

from modelyard_operator.kube.client import (
    ACCELERATOR_POOL,
    CRD,
    MODEL_SERVICE,
    NODE,
    POD,
    RAY_CLUSTER,
    SECRET,
    SERVING_CLUSTER,
    Kind,
    Manifest,
)
from modelyard_operator.kube.errors import KindAbsent
from modelyard_operator.observed.capacity import NodeFacts, parse_nodes
from modelyard_operator.reconcile import headroom
from modelyard_operator.reconcile.result import Key

OTHER = Key(SERVICE.namespace, "other")


@pytest.fixture
def listening(world: World) -> Iterator[World]:
    """The loops of two services wait for wake-ups."""
    with ExitStack() as stack:
        for key in (SERVICE, OTHER):
            stack.enter_context(world.app.wakeups.listening(MODEL_SERVICE, key))
        yield world


async def two(world: World) -> World:
    for key in (SERVICE, OTHER):
        world.apply_service(name=key.name)
    await world.settle()
    await woken_by_a_look(world)
    return world


async def woken_by_a_look(world: World) -> set[Key]:
    """The services that one look at their ServingCluster wakes."""
    wakeups = world.app.wakeups
    for key in (SERVICE, OTHER):
        wakeups._flags[MODEL_SERVICE][key].clear()
    await look(world)
    return {key for key in (SERVICE, OTHER) if wakeups.is_woken(MODEL_SERVICE, key)}


async def look(world: World) -> float | None:
    return (await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)).requeue_after_s


def application_of(world: World, key: Key) -> str:
    (name,) = [each for each in world.applications if each.split(".")[1] == key.name]
    return name


async def test_a_service_is_woken_for_its_own_application_and_not_for_anothers(listening: World) -> None:
    await two(listening)
    listening.serve.messages[application_of(listening, OTHER)] = "a replica is slow"
    assert await woken_by_a_look(listening) == {OTHER}
    assert await woken_by_a_look(listening) == set()
    listening.serve.states[application_of(listening, SERVICE)] = "UNHEALTHY"
    assert await woken_by_a_look(listening) == {SERVICE}


async def test_a_service_that_lacks_replicas_is_woken_by_the_workers_of_its_group(listening: World) -> None:
    await two(listening)
    listening.serve.states[application_of(listening, OTHER)] = "DEPLOYING"
    await woken_by_a_look(listening)
    workers = [each for each in listening.kube.all(POD) if each["metadata"]["labels"].get("ray.io/group")]
    waiting = {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}]}
    for pod in workers:
        listening.kube.put({**pod, "status": {**pod["status"], **waiting}})
    assert await woken_by_a_look(listening) == {OTHER}


async def test_what_is_wrong_with_the_whole_cluster_wakes_all(listening: World) -> None:
    await two(listening)
    listening.serve.reachable = False
    assert await woken_by_a_look(listening) == {SERVICE, OTHER}
    listening.serve.reachable = True
    assert await woken_by_a_look(listening) == {SERVICE, OTHER}
    listening.kube.remove(CRD, "rayclusters.ray.io")
    listening.now += timedelta(seconds=31)
    assert await woken_by_a_look(listening) == {SERVICE, OTHER}


async def test_what_is_wrong_with_the_cluster_wakes_a_service_that_nothing_runs_of(listening: World) -> None:
    listening.apply_service()
    await listening.settle()
    listening.apply_service(name=OTHER.name)
    await woken_by_a_look(listening)
    assert await woken_by_a_look(listening) == set()
    listening.kube.remove(CRD, "rayclusters.ray.io")
    listening.now += timedelta(seconds=31)
    assert await woken_by_a_look(listening) == {SERVICE, OTHER}


async def test_a_service_is_woken_when_ray_refuses_its_own_application(listening: World) -> None:
    await two(listening)
    refused = "pvc://models/refused"
    listening.serve.refuses_application = lambda each: each["deployments"][0]["user_config"]["model"]["uri"] == refused
    listening.apply_service(refused, name=OTHER.name)
    await listening.reconcile(MODEL_SERVICE, OTHER, listening.service_loop.reconcile)
    assert await woken_by_a_look(listening) == {OTHER}


async def test_a_first_look_wakes_all_services_of_the_cluster(listening: World) -> None:
    await two(listening)
    del listening.app.views[CLUSTER]
    assert await woken_by_a_look(listening) == {SERVICE, OTHER}


async def test_it_looks_soon_after_a_config_was_taken_and_only_then(world: World) -> None:
    world.apply_service()
    await world.settle()
    assert await look(world) == 10
    world.apply_service(replicas=2)
    assert await look(world) == 0.25
    world.now += timedelta(seconds=2)
    assert (await look(world) or 0) >= 1


async def test_a_config_that_is_refused_is_not_tried_again_sooner(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.serve.refuses = "no"
    world.apply_service(replicas=2)
    assert (await look(world) or 0) >= 1


def reads(world: World, kind: str) -> int:
    return sum(request.verb in ("get", "list") and request.kind == kind for request in world.kube.requests)


async def test_kuberays_crd_is_read_again_after_a_while(world: World) -> None:
    await world.settle()
    world.now += timedelta(seconds=31)
    await look(world)
    before = reads(world, CRD.kind)
    world.now += timedelta(seconds=29)
    await look(world)
    assert reads(world, CRD.kind) == before
    world.kube.remove(CRD, "rayclusters.ray.io")
    world.now += timedelta(seconds=2)
    await look(world)
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("False", "KubeRayAbsent")
    world.kube.put(KUBERAY_CRD)
    await look(world)
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("True", "Serving")


async def test_kuberays_crd_is_read_again_at_once_where_rayclusters_are_not_served(world: World) -> None:
    await look(world)
    world.kube.remove(CRD, "rayclusters.ray.io")
    world.kube.absent.add(RAY_CLUSTER)
    with pytest.raises(KindAbsent):
        await look(world)
    await look(world)
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("False", "KubeRayAbsent")


async def test_services_that_begin_at_once_share_what_is_read_for_headroom(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        world.apply_service(name=name)
    await world.settle()
    for name in names:
        world.apply_service("pvc://models/other", name=name)
    world.now += timedelta(seconds=10)
    before = reads(world, NODE.kind)
    answer = world.kube.list

    async def in_a_while(*args: Any, **kwargs: Any) -> Sequence[Manifest]:
        await asyncio.sleep(0)
        return await answer(*args, **kwargs)

    parsed = []

    def counted(*args: Any) -> tuple[NodeFacts, ...]:
        parsed.append(args)
        return parse_nodes(*args)

    monkeypatch.setattr(headroom, "parse_nodes", counted)
    monkeypatch.setattr(world.kube, "list", in_a_while)
    await asyncio.gather(*(world.service_loop.reconcile(Key(SERVICE.namespace, name)) for name in names))
    assert (reads(world, NODE.kind), len(parsed)) == (before + 1, 1)


async def test_a_look_that_is_confirmed_asks_for_neither_cluster_nor_pool(world: World) -> None:
    await world.complete()
    world.apply_service()
    kinds = MODEL_SERVICE.kind, SERVING_CLUSTER.kind, ACCELERATOR_POOL.kind
    before = [reads(world, kind) for kind in kinds]
    await world.service_loop.reconcile(SERVICE)
    assert world.revisions, "a revision was made, so the look was confirmed"
    assert [reads(world, kind) - was for kind, was in zip(kinds, before, strict=True)] == [1, 0, 0]


async def test_what_takes_long_to_read_for_headroom_serves_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply_service()
    await world.settle()
    world.apply_service("pvc://models/other")
    answer = world.kube.list

    async def slowly(kind: Kind, **where: Any) -> Sequence[Manifest]:
        world.now += timedelta(seconds=1 if kind == NODE else 0)
        return await answer(kind, **where)

    monkeypatch.setattr(world.kube, "list", slowly)
    before = reads(world, NODE.kind)
    for seconds, more in ((0, 1), (15, 1), (10, 2)):
        world.now += timedelta(seconds=seconds)
        await world.service_loop.reconcile(SERVICE)
        assert reads(world, NODE.kind) == before + more


async def test_the_token_is_read_once_and_again_where_serve_does_not_answer_or_the_cluster_is_another(
    world: World,
) -> None:
    world.apply_service()
    await world.settle()
    before = reads(world, SECRET.kind)
    await look(world)
    assert reads(world, SECRET.kind) == before
    world.serve.reachable = False
    await look(world)
    world.serve.reachable = True
    await look(world)
    assert reads(world, SECRET.kind) == before + 1
    (ray,) = world.kube.all(RAY_CLUSTER)
    renewed = {**ray, "metadata": {**ray["metadata"], "uid": "another"}}
    world.kube.remove(RAY_CLUSTER, ray["metadata"]["name"], namespace=CLUSTER.namespace)
    world.kube.put(renewed)
    await look(world)
    assert reads(world, SECRET.kind) == before + 2
