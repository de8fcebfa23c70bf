"""Two operators at once: one that was frozen, or cut off, changes nothing after its successor has begun."""

from datetime import UTC, datetime

import pytest
from tests.unit.reconcile.world import CLUSTER, SERVICE, World

from modelyard_operator.kube.client import LEASE, SERVING_CLUSTER
from modelyard_operator.reconcile.lease import DURATION_S, NAME, Identity, Lease, NotHolder


def operator(world: World, name: str) -> Lease:
    """A new operator process in `world`; the one before stands still from here on."""

    def seconds() -> float:
        return (world.now - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()

    lease = Lease(
        world.kube,
        world.settings.namespace,
        Identity(process=name),
        clock=seconds,
        now=lambda: world.now,
    )
    world.permit = lease
    world.start_operator()
    return lease


async def turns(world: World, lease: Lease, count: int = 30) -> None:
    for _ in range(count):
        await lease.attempt()
        if lease.held:
            await world.turn()
        else:
            world.step()


async def test_one_that_is_thawed_does_not_put_its_old_config(world: World) -> None:
    first = operator(world, "first")
    await turns(world, first)
    world.apply_service()
    await turns(world, first)
    thawed = world.cluster_loop
    second = operator(world, "second")
    world.apply_service(replicas=3)
    await turns(world, second)
    assert second.held
    put = len(world.serve.puts)
    (application,) = world.applications
    world.serve.configs[application]["deployments"][0]["num_replicas"] = 7
    with pytest.raises(NotHolder):
        await thawed.reconcile(CLUSTER)
    assert len(world.serve.puts) == put
    writes = list(world.kube.writes)
    with pytest.raises(NotHolder):
        await thawed.reconcile(CLUSTER)
    assert world.kube.writes == writes
    await turns(world, second)
    assert world.serve.target(application) == 3


async def test_one_whose_lease_was_given_away_does_not_put(world: World) -> None:
    """By its own clock it still holds."""
    lease = operator(world, "first")
    world.apply_service()
    await turns(world, lease)
    standing = world.kube.find(LEASE, NAME, namespace="modelyard")
    assert standing is not None
    world.kube.put({**standing, "spec": {**standing["spec"], "holderIdentity": "another"}})
    (application,) = world.applications
    world.serve.configs[application]["deployments"][0]["num_replicas"] = 7
    put = len(world.serve.puts)
    assert lease.held
    with pytest.raises(NotHolder):
        await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
    assert len(world.serve.puts) == put


async def test_a_successor_ends_where_an_undisturbed_one_ends(world: World) -> None:
    undisturbed = World()
    undisturbed.apply_service("pvc://models/other")
    await undisturbed.settle()
    world.apply_service()
    lease = operator(world, "first")
    await turns(world, lease, 4)
    world.apply_service("pvc://models/other")
    lease = operator(world, "second")
    await turns(world, lease, int(DURATION_S) + 60)
    assert world.state() == undisturbed.state()
    assert world.conditions(key=SERVICE)["Ready"] == ("True", "Serving")
