"""Ray nodes come, go, die and come back."""

import asyncio

from tests.gateway.world import Gateway, RayNode, StartNode, backend, route, until

from modelyard_gateway.routes import RouteDocument

SERVICE = "/team-a/smollm2"
ROUTES = (route(SERVICE),)


async def answering(gateway: Gateway, requests: int = 12) -> set[object]:
    """Who answers; each request must be."""
    answers = await asyncio.gather(*(gateway.get(f"{SERVICE}/v1/x") for _ in range(requests)))
    assert {status for status, _, _ in answers} == {200}
    return {body["node"] for _, body, _ in answers}


def document(*workers: RayNode, head: RayNode | None = None) -> RouteDocument:
    return RouteDocument(backends=(backend(workers, head=head),), routes=ROUTES)


async def test_workers_come_and_go_without_a_reload(gateway: Gateway, node: StartNode) -> None:
    one, two, three = await node("one"), await node("two"), await node("three")
    await gateway.publish(document(one))
    assert await answering(gateway) == {"one"}
    await gateway.publish(document(one, two, three))
    assert await answering(gateway) == {"one", "two", "three"}
    await gateway.publish(document(three))
    assert await answering(gateway) == {"three"}
    assert gateway.agent.status.reloads == 0


async def test_more_workers_than_slots_take_one_reload(gateway: Gateway, node: StartNode) -> None:
    workers = [await node(f"worker-{number}") for number in range(9)]
    await gateway.publish(document(*workers[:8]))
    assert gateway.agent.status.reloads == 0
    await gateway.publish(document(*workers))
    assert await answering(gateway, 30) == {worker.name for worker in workers}
    await gateway.publish(document(*workers[:1]))
    await gateway.publish(document(*workers))
    assert gateway.agent.status.reloads == 1


async def test_the_head_answers_only_where_no_worker_can(gateway: Gateway, node: StartNode) -> None:
    worker, head = await node("worker"), await node("head")
    await gateway.publish(document(worker, head=head))
    assert await answering(gateway) == {"worker"}
    await gateway.publish(document(head=head))
    assert await answering(gateway) == {"head"}
    await gateway.publish(document(worker, head=head))
    assert await answering(gateway) == {"worker"}


async def test_a_worker_that_died_costs_no_request(gateway: Gateway, node: StartNode) -> None:
    one, two, head = await node("one"), await node("two"), await node("head")
    await gateway.publish(document(one, two, head=head))
    await one.stop()
    assert await answering(gateway, 40) == {"two"}
    await two.stop()
    assert await answering(gateway, 40) == {"head"}
    await two.start()
    await until(lambda: _is_asked(gateway, two))


async def test_a_worker_that_says_it_cannot_serve_is_left_out(gateway: Gateway, node: StartNode) -> None:
    worker, head = await node("worker"), await node("head")
    await gateway.publish(document(worker, head=head))
    worker.healthy = False
    await until(lambda: _is_asked(gateway, head))
    worker.healthy = True
    await until(lambda: _is_asked(gateway, worker))


async def test_without_any_server_the_gateway_says_so(gateway: Gateway, node: StartNode) -> None:
    worker = await node("worker")
    await gateway.publish(document(worker))
    await worker.stop()
    for published in (document(worker), document()):
        await gateway.publish(published)
        status, body, headers = await gateway.get(f"{SERVICE}/v1/x")
        assert (status, body["error"]["code"]) == (503, "no_server")
        assert int(headers["retry-after"]) > 0


async def test_a_request_that_was_sent_is_not_sent_again(gateway: Gateway, node: StartNode) -> None:
    one, two = await node("one"), await node("two")
    await gateway.publish(document(one, two))
    asked = asyncio.create_task(gateway.request("POST", f"{SERVICE}/held", data=b"x"))
    await until(lambda: one.seen.total() + two.seen.total() == 1)
    holding = one if one.seen.total() else two
    await holding.stop()
    status, body, _ = await asked
    assert (status, body["error"]["code"]) == (502, "bad_gateway")
    assert one.seen.total() + two.seen.total() == 1


async def test_each_service_has_its_own_timeout(gateway: Gateway, node: StartNode) -> None:
    worker = await node("worker")
    quick, patient = route("/team-a/quick", timeout_s=1), route("/team-a/patient", timeout_s=30)
    await gateway.publish(RouteDocument(backends=(backend([worker]),), routes=(quick, patient)))
    waiting = asyncio.create_task(gateway.get("/team-a/patient/held"))
    status, body, _ = await gateway.get("/team-a/quick/held")
    assert (status, body["error"]["code"]) == (504, "timeout")
    worker.released.set()
    assert (await waiting)[0] == 200


async def test_a_client_that_gives_up_frees_the_replica(gateway: Gateway, node: StartNode) -> None:
    worker = await node("worker")
    await gateway.publish(document(worker))
    for path in ("held", "stream"):
        asked = asyncio.create_task(gateway.get(f"{SERVICE}/{path}"))
        await until(lambda path=path: any(seen.endswith(path) for seen in worker.seen))
        asked.cancel()
    await until(lambda: worker.cancelled == 1)


async def _is_asked(gateway: Gateway, node: RayNode) -> bool:
    return await answering(gateway, 4) == {node.name}
