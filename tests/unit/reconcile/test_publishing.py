"""The route document is made again where something that it is made of has changed, and only there."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.fakes.virtual_time import run_virtually
from tests.unit.reconcile.world import CLUSTER, SERVICE, World

from modelyard_gateway import published
from modelyard_gateway.routes import CONFIG_MAP as ROUTES_NAME
from modelyard_operator.desired.routes import route_document
from modelyard_operator.kube.client import CONFIG_MAP, CONTROLLER_REVISION, MODEL_SERVICE, POD
from modelyard_operator.reconcile import routes
from modelyard_operator.reconcile.routes import ROUTES


class Counting:
    """A world at rest, and how often a document is made in it."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.made = world, 0

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.made += 1
            return route_document(*args, **kwargs)

        monkeypatch.setattr(routes, "route_document", counted)

    async def look(self) -> int:
        """How many documents one look makes."""
        before = self.made
        await self.world.routes.reconcile(ROUTES[1])
        return self.made - before


@pytest.fixture
async def counting(world: World, monkeypatch: pytest.MonkeyPatch) -> Counting:
    world.apply_service()
    await world.settle()
    return Counting(world, monkeypatch)


async def test_at_rest_none_is_made(counting: Counting) -> None:
    assert [await counting.look() for _ in range(3)] == [0, 0, 0]


def suspend(world: World) -> None:
    world.apply_service(suspend=True)


def lose_a_revision(world: World) -> None:
    (revision,) = world.kube.all(CONTROLLER_REVISION)
    world.kube.remove(CONTROLLER_REVISION, revision["metadata"]["name"], namespace=SERVICE.namespace)


def lose_a_pod(world: World) -> None:
    pod = next(each for each in world.kube.all(POD) if each["metadata"]["labels"].get("ray.io/group"))
    world.kube.remove(POD, pod["metadata"]["name"], namespace=CLUSTER.namespace)


def listen_nowhere(world: World) -> None:
    view = world.app.views[CLUSTER]
    below = {name: replace(each, serving={}) for name, each in view.ray_clusters.items()}
    world.app.views[CLUSTER] = replace(view, ray_clusters=below)


def forget_the_records(world: World) -> None:
    world.app.records.forget(SERVICE)


def empty_the_document(world: World) -> None:
    standing = world.kube.find(CONFIG_MAP, ROUTES_NAME, namespace="modelyard")
    assert standing is not None
    world.kube.put({**standing, "data": {}})


def take_a_gateway_back(world: World) -> None:
    pod = next(each for each in world.kube.all(POD) if each["metadata"]["name"].startswith("gateway"))
    world.kube.put({**pod, "metadata": {**pod["metadata"], "annotations": {}}})


CHANGES = [
    take_a_gateway_back,
    suspend,
    lose_a_revision,
    lose_a_pod,
    listen_nowhere,
    forget_the_records,
    empty_the_document,
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_makes_one(counting: Counting, change: Callable[[World], None]) -> None:
    change(counting.world)
    assert await counting.look() >= 1
    await counting.look()
    assert await counting.look() == 0


async def test_what_was_cached_is_what_a_new_operator_publishes(counting: Counting) -> None:
    before = counting.world.document
    empty_the_document(counting.world)
    await counting.look()
    assert counting.world.document == before


async def test_while_not_all_is_known_each_look_makes_one(counting: Counting) -> None:
    counting.world.app.store._shelves[MODEL_SERVICE].complete = False
    assert await counting.look() >= 1
    assert await counting.look() >= 1


def test_documents_that_take_long_are_made_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world = World()
        world.apply_service()
        await world.settle()
        counting, clock = Counting(world, monkeypatch), asyncio.get_running_loop().time
        render = world.routes._render

        async def slowly(*args: Any) -> Any:
            await asyncio.sleep(0.1)
            return await render(*args)

        monkeypatch.setattr(world.routes, "_render", slowly)
        at = []
        for replicas in (2, 3, 4):
            world.apply_service(replicas=replicas)
            await counting.look()
            at.append(clock())
        assert at == pytest.approx([at[0], at[0] + 0.4, at[0] + 0.8])

    run_virtually(main())


async def test_a_document_too_large_for_a_config_map_is_packed_and_rests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply_service()
    await world.settle()
    monkeypatch.setattr(published, "_MOST_TEXT", 1)
    world.apply_service("pvc://models/other")
    await world.settle()
    routes = world.kube.find(CONFIG_MAP, ROUTES_NAME, namespace="modelyard")
    assert routes is not None
    assert not routes.get("data")
    assert set(routes["binaryData"]) == {published.PACKED_KEY}
    (route,) = world.document.routes
    assert [f"/_r/{application.replace('.', '/')}" for application in world.applications] == [route.prefix]
    before = len(world.kube.writes)
    world.start_operator()
    await world.settle()
    assert len(world.kube.writes) == before
    world.kube.put({**routes, "binaryData": {published.PACKED_KEY: "bm8gZ3ppcA=="}})
    await world.settle()
    assert world.document.routes == (route,)
