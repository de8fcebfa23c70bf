"""Documents change while requests and streams are under way."""

import asyncio
import json
from typing import Any

import aiohttp
from tests.gateway.world import Gateway, RayNode, StartNode, backend, refusal, route, until

from modelyard_gateway.routes import RouteDocument

CLIENTS = 8
SERVICE = "/team-a/smollm2"


def revision(number: int) -> str:
    return f"{number:08x}"


class Load:
    """Clients that ask one service without pause, over kept connections.

    `expected` is the number of the newest acknowledged revision: an answer to a request that began later must not
    come from an older one.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.expected = 0
        self.answers = 0
        self.faults: list[str] = []
        self._gateway = gateway
        self._stopped = False

    async def __aenter__(self) -> "Load":
        self._clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        await self.goes_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped = True
        await asyncio.gather(*self._clients)

    async def goes_on(self) -> None:
        """Wait until each client can have had an answer to a request that began after this call."""
        seen = self.answers
        await until(lambda: self.answers >= seen + 3 * CLIENTS)

    async def _client(self) -> None:
        async with aiohttp.ClientSession() as session:
            while not self._stopped:
                least = self.expected
                try:
                    # A POST, since clients repeat a GET on a dead connection without telling.
                    async with session.post(f"{self._gateway.url}{SERVICE}/v1/x", data=b"x" * 100) as response:
                        body = await response.read()
                        number = int(response.headers.get("x-modelyard-revision", "-1"), 16)
                    if response.status != 200:
                        self.faults.append(f"{response.status} {body!r}")
                    elif number < least or f"/{revision(number)}/" not in json.loads(body)["target"]:
                        self.faults.append(f"revision {number} after {least} was acknowledged")
                except aiohttp.ClientError as error:
                    self.faults.append(repr(error))
                self.answers += 1


async def test_switches_of_revision_lose_nothing(gateway: Gateway, node: StartNode) -> None:
    workers = [await node("one"), await node("two"), await node("three")]

    def document(number: int) -> RouteDocument:
        return RouteDocument(backends=(backend(workers),), routes=(route(SERVICE, revision(number)),))

    await gateway.publish(document(0))
    async with Load(gateway) as load:
        for number in range(1, 11):
            await gateway.publish(document(number))
            load.expected = number
            await load.goes_on()
    assert load.faults == []
    assert gateway.agent.status.reloads == 0


async def test_reloads_lose_nothing_and_no_kept_connection_stays_behind(gateway: Gateway, node: StartNode) -> None:
    worker = await node("worker")

    def document(number: int) -> RouteDocument:
        # Another RayCluster each time, so that each change needs a reload.
        others = tuple(backend([worker], name=f"platform.other-{n}") for n in range(number))
        return RouteDocument(backends=(backend([worker]), *others), routes=(route(SERVICE, revision(number)),))

    await gateway.publish(document(0))
    async with Load(gateway) as load:
        for number in range(1, 6):
            await gateway.publish(document(number))
            load.expected = number
            await load.goes_on()
    assert load.faults == []
    assert gateway.agent.status.reloads == 5


async def test_new_workers_that_refuse_connections_cost_no_request(gateway: Gateway, node: StartNode) -> None:
    """A worker whose pod is ready may not listen yet, and one that does no more is still in the document."""
    good = [await node("one"), await node("two")]

    def document(dead: list[RayNode]) -> RouteDocument:
        return RouteDocument(backends=(backend([*good, *dead]),), routes=(route(SERVICE, revision(0)),))

    await gateway.publish(document([]))
    async with Load(gateway) as load:
        for number in range(3):
            await gateway.publish(document([RayNode(f"dead-{number}-{each}") for each in range(4)]))
            await load.goes_on()
            await gateway.publish(document([]))
            await load.goes_on()
    assert load.faults == []
    assert gateway.agent.status.reloads == 0


async def test_a_request_on_a_connection_to_a_replaced_worker_goes_where_it_belongs_now(
    gateway: Gateway, node: StartNode
) -> None:
    old, new = await node("old"), await node("new")
    await gateway.publish(RouteDocument(backends=(backend([old]),), routes=(route(SERVICE, "aaaa1111"),)))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.haproxy.ground.listen_port)

    async def ask() -> tuple[str, dict[str, Any]]:
        writer.write(f"GET {SERVICE}/v1/x HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].split()[0])
        return head, json.loads(await reader.readexactly(length))

    assert (await ask())[1]["node"] == "old"
    # A new backend that the replaced worker has never heard of, and the service moves there.
    there = "platform.blue"
    await gateway.publish(
        RouteDocument(backends=(backend([new], name=there),), routes=(route(SERVICE, "bbbb2222", to=there),))
    )
    head, body = await ask()
    writer.close()
    assert (body["node"], body["target"]) == ("new", f"/_r{SERVICE}/bbbb2222/v1/x")
    assert body["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert "connection: close" in head


async def test_a_stream_outlives_reloads_switches_and_the_removal_of_its_server(
    gateway: Gateway, node: StartNode
) -> None:
    streaming, other = await node("streaming"), await node("other")

    def document(workers: list[RayNode], number: int, clusters: int) -> RouteDocument:
        others = tuple(backend([other], name=f"platform.other-{n}") for n in range(clusters))
        return RouteDocument(backends=(backend(workers), *others), routes=(route(SERVICE, revision(number)),))

    await gateway.publish(document([streaming], 0, 0))
    async with gateway.session.get(f"{gateway.url}{SERVICE}/stream") as response:
        assert response.status == 200
        assert await response.content.readline() == b"data: 0\n"
        for number in range(1, 4):
            await gateway.publish(document([streaming], number, clusters=number))
        await gateway.publish(document([other], 4, clusters=3))
        await gateway.publish(document([other], 4, clusters=0))
        assert gateway.agent.status.reloads == 4
        status, body, _ = await gateway.get(f"{SERVICE}/v1/x")
        assert (status, body["node"]) == (200, "other")
        streaming.released.set()
        rest = (await response.content.read()).decode()
    events = [line for line in ("data: 0\n" + rest).split("\n") if line]
    assert events == [f"data: {number}" for number in range(len(events) - 1)] + ["data: [DONE]"]


async def test_events_of_a_stream_come_as_they_are_made(gateway: Gateway, node: StartNode) -> None:
    worker = await node("worker")
    await gateway.publish(RouteDocument(backends=(backend([worker]),), routes=(route(SERVICE),)))
    async with gateway.session.get(f"{gateway.url}{SERVICE}/stream") as response:
        for number in range(5):
            # The replica goes on only when the test ends: what is here was not held back.
            assert await asyncio.wait_for(response.content.readline(), 2) == f"data: {number}\n".encode()
            await response.content.readline()


async def test_a_service_is_refused_then_served_then_refused(gateway: Gateway, node: StartNode) -> None:
    worker = await node("worker")
    refused = RouteDocument(backends=(backend([worker]),), refusals=(refusal(SERVICE, "Starting", "no replica yet"),))
    served = RouteDocument(backends=(backend([worker]),), routes=(route(SERVICE),))
    suspended = RouteDocument(backends=(backend([worker]),), refusals=(refusal(SERVICE, "Suspended", "by its owner"),))
    seen = []
    for document in (refused, served, suspended, served, RouteDocument()):
        await gateway.publish(document)
        status, body, _ = await gateway.get(f"{SERVICE}/v1/x")
        seen.append((status, body["error"]["code"] if "error" in body else body["node"]))
    assert seen == [(503, "Starting"), (200, "worker"), (503, "Suspended"), (200, "worker"), (404, "service_not_found")]


async def test_a_thousand_routes(gateway: Gateway, node: StartNode) -> None:
    worker = await node("worker")

    def document(number: int) -> RouteDocument:
        own = {"servers": (worker.name,)}
        routes = (route(f"/team-{n % 10}/service-{n}", revision(number)).model_copy(update=own) for n in range(1000))
        return RouteDocument(backends=(backend([worker]),), routes=tuple(routes))

    await gateway.publish(RouteDocument(backends=(backend([worker]),)))
    clock = asyncio.get_running_loop().time
    for number, what in ((1, "added"), (2, "changed")):
        started = clock()
        await gateway.publish(document(number))
        print(f"1,000 routes {what} in {clock() - started:.3f} s")  # noqa: T201 - a figure to look at, not to hold
    _, body, _ = await gateway.get("/team-7/service-997/v1/x")
    assert body["target"] == f"/_r/team-7/service-997/{revision(2)}/v1/x"
    assert gateway.agent.status.reloads == 0
