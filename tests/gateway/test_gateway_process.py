"""The gateway as its container runs it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from tests.gateway.world import StartNode, backend, free_port, route, until

from modelyard_gateway.routes import RouteDocument

SERVICE = "/team-a/smollm2"


@dataclass
class Container:
    process: asyncio.subprocess.Process
    port: int
    status_port: int
    routes_file: Path
    session: aiohttp.ClientSession

    async def in_effect(self, version: str) -> bool:
        try:
            async with self.session.get(f"http://127.0.0.1:{self.status_port}/status") as response:
                return bool((await response.json())["version"] == version)
        except aiohttp.ClientConnectionError:
            return False


@pytest.fixture
async def container(state_dir: Path) -> AsyncIterator[Container]:
    port, status_port, routes_file = free_port(), free_port(), state_dir / "published.json"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "MODELYARD_GATEWAY_ROUTES_FILE": str(routes_file),
        "MODELYARD_GATEWAY_STATE_DIR": str(state_dir / "state"),
        "MODELYARD_GATEWAY_LISTEN_PORT": str(port),
        "MODELYARD_GATEWAY_STATUS_PORT": str(status_port),
        "MODELYARD_GATEWAY_MAX_CONNECTIONS": "500",
        "MODELYARD_GATEWAY_DRAIN_DELAY_SECONDS": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "modelyard_gateway", env=environment, stdout=asyncio.subprocess.PIPE
    )
    # HAProxy waits for kept connections too before it ends.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Container(process, port, status_port, routes_file, session)
    if process.returncode is None:
        process.terminate()
        process.terminate()
    await process.communicate()


async def test_sigterm_lets_a_stream_end_and_the_log_tells_of_it(container: Container, node: StartNode) -> None:
    worker = await node("worker")
    document = RouteDocument(backends=(backend([worker]),), routes=(route(SERVICE),))
    container.routes_file.write_text(document.to_json())
    await until(lambda: container.in_effect(document.version))
    url = f"http://127.0.0.1:{container.port}{SERVICE}"
    async with container.session.get(f"{url}/stream?key=secret", headers={"X-Request-Id": "a-stream"}) as response:
        await response.content.readline()
        container.process.terminate()
        await until(lambda: refused(container.port))
        worker.released.set()
        assert (await response.content.read()).endswith(b"data: [DONE]\n\n")
    output, _ = await asyncio.wait_for(container.process.communicate(), 20)
    assert container.process.returncode == 0
    assert b"secret" not in output
    entry = next(json.loads(line) for line in output.splitlines() if b'"a-stream"' in line)
    assert entry["service"] == SERVICE[1:]
    assert (entry["path"], entry["status"], entry["revision"]) == (f"{SERVICE}/stream", 200, "aaaa1111")
    assert entry["bytes"] > 0
    assert entry["total_ms"] >= entry["response_ms"] >= 0


async def test_a_kept_connection_is_routed_rightly_to_the_end(container: Container, node: StartNode) -> None:
    worker, another = await node("worker"), await node("another")
    before = RouteDocument(backends=(backend([worker]),), routes=(route(SERVICE, "aaaa1111"),))
    # Servers cannot be changed any more by then, and need not be.
    moved = route(SERVICE, "bbbb2222").model_copy(update={"servers": ("another",)})
    after = RouteDocument(backends=(backend([worker, another]),), routes=(moved,))
    container.routes_file.write_text(before.to_json())
    await until(lambda: container.in_effect(before.version))
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)

    async def revision() -> str:
        writer.write(f"GET {SERVICE}/v1/x HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        return head.partition("x-modelyard-revision: ")[2].split()[0]

    assert await revision() == "aaaa1111"
    container.process.terminate()
    await until(lambda: refused(container.port))
    container.routes_file.write_text(after.to_json())
    await until(lambda: container.in_effect(after.version))
    assert await revision() == "bbbb2222"
    writer.close()
    assert await asyncio.wait_for(container.process.wait(), 20) == 0


async def test_a_wrong_setting_is_named_and_nothing_starts() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "modelyard_gateway"),
        env={"MODELYARD_GATEWAY_LISTEN_PORT": "http", "MODELYARD_GATEWAY_ROUTES_FILE": "routes.json"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    assert b"MODELYARD_GATEWAY_LISTEN_PORT is 'http': give a whole number from 1 to 65535" in error


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False
