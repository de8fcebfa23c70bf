"""An operator that dies right after any of its writes ends where an undisturbed one ends."""

from collections.abc import Callable

import pytest
from tests.unit.reconcile.world import SERVICE, World

from modelyard_operator.kube.client import MODEL_SERVICE

MOST_WRITES = 60
Act = Callable[[World], None]


def create(world: World) -> None:
    world.apply_service()


def update(world: World) -> None:
    world.apply_service("pvc://models/other", replicas=2)


def suspend(world: World) -> None:
    world.apply_service(suspend=True)


def delete(world: World) -> None:
    world.delete(MODEL_SERVICE, SERVICE)


@pytest.mark.parametrize(
    ("before", "act"),
    [([], create), ([create], update), ([create], suspend), ([create, suspend], create), ([create], delete)],
    ids=["create", "update", "suspend", "resume", "delete"],
)
async def test_every_death_ends_as_no_death(before: list[Act], act: Act) -> None:
    undisturbed = World()
    for each in before:
        each(undisturbed)
        await undisturbed.settle()
    act(undisturbed)
    await undisturbed.settle()
    expected = undisturbed.state()
    for writes in range(1, MOST_WRITES):
        world = World()
        for each in before:
            each(world)
            await world.settle()
        act(world)
        if not await world.settle_and_die(after=writes):
            assert writes > 1, "nothing was written at all"
            return
        assert world.state() == expected, f"died after write {writes}: {world.kube.writes}"
    raise AssertionError("it never stopped writing")
