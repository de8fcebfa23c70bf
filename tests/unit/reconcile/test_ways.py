"""The route document leads to the head and to the workers that Ray Serve listens on, as far as that is known."""

from tests.unit.reconcile.world import World

IDLE = "10.3.0.1"


async def turns(world: World, count: int) -> None:
    for _ in range(count):
        await world.turn()


def ways(world: World) -> set[str]:
    """Where the gateways may send requests."""
    return {server.address for backend in world.document.backends for server in backend.servers}


async def serving_beside_an_idle_worker(world: World) -> set[str]:
    """The addresses of the head and of the workers with a replica."""
    world.idle_workers = [IDLE]
    world.apply_service(replicas=2)
    await world.settle()
    (application,) = world.applications
    (head,) = (address.removesuffix(":8265") for address in world.serves)
    return {head, *world.serve.addresses(application)}


async def test_a_ready_worker_without_a_replica_is_left_out_and_taken_in_with_one(world: World) -> None:
    serving = await serving_beside_an_idle_worker(world)
    assert len(serving) == 3
    assert ways(world) == serving
    world.idle_workers = []
    world.apply_service(replicas=3)
    await world.settle()
    (application,) = world.applications
    assert ways(world) == serving | {*world.serve.addresses(application)}
    assert len(ways(world)) == 4


async def test_the_known_ones_stay_while_serve_cannot_be_asked(world: World) -> None:
    serving = await serving_beside_an_idle_worker(world)
    world.serve.reachable = False
    for _ in range(4):
        await world.turn()
        assert ways(world) == serving
    assert world.conditions()["Degraded"] == ("True", "ServeUnreachable")


async def test_every_ready_worker_is_in_before_anything_is_known(world: World) -> None:
    serving = await serving_beside_an_idle_worker(world)
    world.serve.reachable = False
    world.start_operator()
    await turns(world, 3)
    assert ways(world) == {*serving, IDLE}
    world.serve.reachable = True
    await turns(world, 3)
    assert ways(world) == serving
