"""The agent: what it refuses, what it says, what it mends."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.gateway.world import Gateway, StartNode, backend, route, running_gateway, until

from modelyard_gateway.routes import Backend, RouteDocument
from modelyard_gateway.server import application

SERVICE = "/team-a/smollm2"


async def served(gateway: Gateway) -> bool:
    return (await gateway.get(f"{SERVICE}/v1/x"))[0] == 200


@pytest.fixture
async def document(node: StartNode) -> RouteDocument:
    return RouteDocument(backends=(backend([await node("worker")]),), routes=(route(SERVICE),))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("{", "", "JSON"),
        ('"schema_version": 2', '"schema_version": 3', "schema_version"),
        ('"routes"', '"roads"', "roads"),
        ('"timeout_s": 3600', '"timeout_s": 60', "version"),
        ('"version": "', '"version": "0', "version"),
    ],
)
async def test_a_bad_document_is_refused_and_the_good_one_keeps_serving(
    gateway: Gateway, document: RouteDocument, before: str, after: str, said: str
) -> None:
    await gateway.publish(document)
    text = document.to_json()
    assert before in text
    gateway.source.publish(text.replace(before, after, 1))
    await until(lambda: gateway.agent.status.error is not None)
    assert said in str(gateway.agent.status.error)
    assert gateway.agent.status.version == document.version
    assert await served(gateway)
    gateway.source.publish(text)
    await until(lambda: gateway.agent.status.error is None)
    assert gateway.agent.status.version == document.version


async def test_a_configuration_that_haproxy_refuses_leaves_the_good_one(
    gateway: Gateway, document: RouteDocument
) -> None:
    await gateway.publish(document)
    # No good document makes a bad configuration; more threads than HAProxy can have do.
    ground = gateway.haproxy.ground
    gateway.haproxy.ground = dataclasses.replace(ground, threads=100_000)
    wanted = RouteDocument(backends=(*document.backends, Backend(name="platform.other")), routes=document.routes)
    gateway.source.publish(wanted.to_json())
    await until(lambda: gateway.agent.status.error is not None)
    assert "refuses the configuration" in str(gateway.agent.status.error)
    assert gateway.agent.status.version == document.version
    assert await served(gateway)
    # It is the good one too that a new HAProxy begins with.
    gateway.haproxy.ground = ground
    os.kill(gateway.haproxy.pid, signal.SIGKILL)
    await until(lambda: gateway.agent.status.starts == 2 and gateway.agent.ready)
    assert gateway.agent.status.version == document.version
    await gateway.publish(RouteDocument(backends=document.backends, routes=(route(SERVICE, "bbbb2222"),)))
    assert gateway.agent.status.error is None


async def test_a_restart_serves_while_the_source_is_down(state_dir: Path, document: RouteDocument) -> None:
    async with running_gateway(state_dir) as first:
        await first.publish(document)
    async with running_gateway(state_dir) as second:
        await until(lambda: second.agent.status.version == document.version)
        assert await served(second)


async def test_a_kept_document_that_cannot_be_read_is_no_obstacle(state_dir: Path, document: RouteDocument) -> None:
    (state_dir / "routes.json").write_text('{"version": "half')
    async with running_gateway(state_dir) as gateway:
        await gateway.publish(document)
        assert await served(gateway)


async def test_a_document_that_cannot_be_kept_is_in_effect_and_kept_later(
    gateway: Gateway, document: RouteDocument, state_dir: Path
) -> None:
    in_the_way = state_dir / "routes.new"
    in_the_way.mkdir()
    await gateway.publish(document)
    await until(lambda: gateway.agent.status.error is not None)
    assert "cannot be kept" in str(gateway.agent.status.error)
    wanted = RouteDocument(backends=document.backends, routes=(route(SERVICE, "bbbb2222"),))
    await gateway.publish(wanted)
    assert (await gateway.get(f"{SERVICE}/v1/x"))[2]["x-modelyard-revision"] == "bbbb2222"
    in_the_way.rmdir()
    gateway.haproxy.changed.set()
    await until(lambda: gateway.agent.status.error is None)
    assert RouteDocument.from_json((state_dir / "routes.json").read_text()) == wanted


async def test_a_configuration_that_cannot_be_written_is_told_and_written_later(
    gateway: Gateway, document: RouteDocument, state_dir: Path
) -> None:
    await gateway.publish(document)
    in_the_way = state_dir / "haproxy.new"
    in_the_way.mkdir()
    # Another RayCluster needs another configuration.
    wanted = RouteDocument(backends=(*document.backends, Backend(name="platform.other")), routes=document.routes)
    gateway.source.publish(wanted.to_json())
    await until(lambda: gateway.agent.status.error is not None)
    assert in_the_way.name in str(gateway.agent.status.error)
    assert await served(gateway)
    in_the_way.rmdir()
    await until(lambda: gateway.agent.status.version == wanted.version)
    assert gateway.agent.status.error is None


async def test_a_dead_haproxy_is_started_again(gateway: Gateway, document: RouteDocument) -> None:
    await gateway.publish(document)
    for number, killed in enumerate((signal.SIGKILL, signal.SIGTERM), start=2):
        os.kill(gateway.haproxy.pid, killed)
        await until(lambda number=number: gateway.agent.status.starts == number and gateway.agent.ready)
        await until(lambda: gateway.agent.status.version == document.version)
        assert await served(gateway)


async def test_what_a_hand_changed_is_put_right(gateway: Gateway, document: RouteDocument) -> None:
    await gateway.publish(document)
    runtime, ground = gateway.haproxy.runtime, gateway.haproxy.ground
    await runtime.change(
        [f"del map {ground.map_file} {SERVICE[1:]}", f"set server {document.backends[0].name}/w1 state maint"]
    )
    assert not await served(gateway)
    gateway.haproxy.changed.set()
    await until(lambda: served(gateway))


async def test_the_agent_answers_operator_probes_and_prometheus(gateway: Gateway, document: RouteDocument) -> None:
    app = application(gateway.agent, gateway.haproxy.ground.metrics_socket)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/readyz")).status == 503
        assert await (await client.get("/status")).json() == {
            "version": None,
            "applied_at": None,
            "error": None,
            "reloads": 0,
            "starts": 0,
        }
        await gateway.publish(document)
        assert await served(gateway)
        assert {(await client.get(path)).status for path in ("/healthz", "/readyz")} == {200}
        status = await (await client.get("/status")).json()
        assert (status["version"], status["error"], status["starts"]) == (document.version, None, 1)
        assert status["applied_at"].endswith("+00:00")
        metrics = await (await client.get("/metrics")).text()
        assert f'modelyard_gateway_document_info{{version="{document.version}"}} 1' in metrics
        assert 'haproxy_frontend_http_responses_total{proxy="gateway",code="2xx"} 1' in metrics
        assert 'server="w1"' in metrics
        assert 'server="w2"' not in metrics
        gateway.agent.leave()
        assert (await client.get("/readyz")).status == 503
        assert await served(gateway)
