"""A service's requests go to the servers of its own while one of them is up, then to the others."""

import asyncio
from collections import Counter

from tests.gateway.test_changes_under_load import SERVICE, Load, revision
from tests.gateway.world import Gateway, RayNode, StartNode, backend, route, until

from modelyard_gateway.routes import MOST_OWN_SERVERS, Route, RouteDocument


def owned(*own: RayNode, path: str = SERVICE) -> Route:
    return route(path, revision(0)).model_copy(update={"servers": tuple(node.name for node in own)})


async def answers(gateway: Gateway, requests: int = 24, *, path: str = SERVICE) -> Counter[str]:
    """Who answers how often; each request must be."""
    got = await asyncio.gather(*(gateway.get(f"{path}/v1/x") for _ in range(requests)))
    assert {status for status, _, _ in got} == {200}
    return Counter(body["node"] for _, body, _ in got)


async def test_each_service_asks_its_own_servers(gateway: Gateway, node: StartNode) -> None:
    one, two, three, head = [await node(name) for name in ("one", "two", "three", "head")]
    routes = (owned(one, path="/team-a/a"), owned(two, three, path="/team-a/b"), owned(path="/team-a/c"))
    await gateway.publish(RouteDocument(backends=(backend([one, two, three], head=head),), routes=routes))
    assert (await answers(gateway, path="/team-a/a")).keys() == {"one"}
    shared = await answers(gateway, 100, path="/team-a/b")
    assert shared.keys() == {"two", "three"}
    assert min(shared.values()) > 20
    assert (await answers(gateway, path="/team-a/c")).keys() == {"one", "two", "three"}


async def test_requests_move_on_when_an_own_server_dies(gateway: Gateway, node: StartNode) -> None:
    one, two, three, head = [await node(name) for name in ("one", "two", "three", "head")]
    await gateway.publish(
        RouteDocument(backends=(backend([one, two, three], head=head),), routes=(owned(one, two),)),
    )
    for dies, left in ((one, "two"), (two, "three"), (three, "head")):
        await dies.stop()
        await until(lambda left=left: _only(gateway, left))
    await two.start()
    await until(lambda: _only(gateway, "two"))


async def test_the_only_one_of_eight_that_is_up_is_found(gateway: Gateway, node: StartNode) -> None:
    other, last = await node("other"), await node("last")
    dead = [RayNode(f"dead-{number}") for number in range(7)]
    await gateway.publish(RouteDocument(backends=(backend([other, last, *dead]),), routes=(owned(*dead, last),)))

    async def only_the_last() -> bool:
        """With as many requests as it takes to begin with each of them: the last one tried is the one that is up.

        Until the others are known to be down, a request may meet more of them than it is tried again.
        """
        got = await asyncio.gather(*(gateway.get(f"{SERVICE}/v1/x") for _ in range(200)))
        return {(status, body.get("node")) for status, body, _ in got} == {(200, "last")}

    await until(only_the_last)


async def test_as_many_as_there_may_be_take_their_share(gateway: Gateway, node: StartNode) -> None:
    own = [await node(f"own-{number}") for number in range(MOST_OWN_SERVERS)]
    other = await node("other")
    await gateway.publish(RouteDocument(backends=(backend([*own, other]),), routes=(owned(*own),)))

    async def all_asked() -> bool:
        await answers(gateway, 50)
        return all(each.seen for each in own)

    await until(all_asked)
    assert not other.seen


async def test_another_list_loses_nothing_and_takes_no_reload(gateway: Gateway, node: StartNode) -> None:
    """Also where servers of the list do not listen (yet, or any more), or where none is known to the gateway."""
    one, two, three = [await node(name) for name in ("one", "two", "three")]
    dead = [RayNode(f"dead-{number}") for number in range(4)]

    def document(*own: RayNode) -> RouteDocument:
        return RouteDocument(backends=(backend([one, two, three, *dead]),), routes=(owned(*own),))

    await gateway.publish(document())
    lists = [(one,), (two,), (two, three), (dead[0],), (*dead,), (dead[1], one), (RayNode("unknown"),), ()]
    async with Load(gateway) as load:
        for own in (*lists, *lists):
            await gateway.publish(document(*own))
            await load.goes_on()
    assert load.faults == []
    assert gateway.agent.status.reloads == 0


async def test_a_neighbour_that_dies_takes_no_request_with_it(gateway: Gateway, node: StartNode) -> None:
    own, neighbour = await node("own"), await node("neighbour")
    await gateway.publish(RouteDocument(backends=(backend([own, neighbour]),), routes=(owned(own),)))
    async with Load(gateway) as load:
        for _ in range(3):
            await neighbour.stop()
            await load.goes_on()
            await neighbour.start()
            await load.goes_on()
    assert load.faults == []
    assert not neighbour.seen


async def _only(gateway: Gateway, name: str) -> bool:
    return (await answers(gateway, 8)).keys() == {name}
