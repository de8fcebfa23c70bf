"""The ConfigMap of routes over the real client and an API server of our own."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from kubernetes.aio import client

from modelyard_gateway import published
from modelyard_gateway.config_map import ConfigMapSource


@dataclass
class ApiServer:
    """Speaks LIST and WATCH of one ConfigMap; each request takes the next thing from its queue."""

    lists: asyncio.Queue[tuple[int, str | None]] = field(default_factory=asyncio.Queue)
    """Status, and the document's text where there is one. The resource version is the number of the LIST."""
    lines: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    """What a watch says; None ends it."""
    queries: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.path == "/api/v1/namespaces/modelyard/configmaps"
        self.queries.append(dict(request.query))
        if "watch" in request.query:
            return await self._watch(request)
        status, text = await self.lists.get()
        items = [] if text is None else [{"metadata": {"name": "modelyard-routes"}, **published.publishable(text)}]
        body = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "100"}, "items": items}
        return web.json_response(body, status=status)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while (line := await self.lines.get()) is not None:
            await response.write(line)
        return response

    def event(self, kind: str, text: str, version: str) -> None:
        found = {"metadata": {"resourceVersion": version}, **published.publishable(text)}
        self.lines.put_nowait(json.dumps({"type": kind, "object": found}).encode() + b"\n")


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def documents(server: ApiServer) -> AsyncIterator[AsyncIterator[str]]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with client.ApiClient(configuration) as api_client:
        source = ConfigMapSource(namespace="modelyard", api=client.CoreV1Api(api_client), first_pause_s=0.01)
        documents = source.documents()
        yield documents
        await documents.aclose()  # type: ignore[attr-defined]
    server.lines.put_nowait(None)
    await runner.cleanup()


async def test_an_event_may_be_as_long_as_a_config_map(server: ApiServer, documents: AsyncIterator[str]) -> None:
    server.lists.put_nowait((200, "one"))
    assert await anext(documents) == "one"
    long = "x" * 900_000
    server.event("MODIFIED", long, "101")
    server.event("MODIFIED", "three", "102")
    assert await anext(documents) == long
    assert await anext(documents) == "three"
    assert [("watch" in query) for query in server.queries] == [False, True], "it began anew"


async def test_a_packed_document_is_read_in_a_list_and_in_a_watch(
    server: ApiServer, documents: AsyncIterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "_MOST_TEXT", 1)
    server.lists.put_nowait((200, "first"))
    assert await anext(documents) == "first"
    server.event("MODIFIED", "second", "101")
    assert await anext(documents) == "second"


async def test_what_is_there_comes_first_and_then_what_changes(
    server: ApiServer, documents: AsyncIterator[str]
) -> None:
    server.lists.put_nowait((200, "one"))
    assert await anext(documents) == "one"
    server.event("MODIFIED", "two", "101")
    assert await anext(documents) == "two"
    assert server.queries[0]["fieldSelector"] == "metadata.name=modelyard-routes"
    assert server.queries[1]["resourceVersion"] == "100"


async def test_a_watch_that_ends_is_continued_where_it_was(server: ApiServer, documents: AsyncIterator[str]) -> None:
    server.lists.put_nowait((200, None))
    server.event("ADDED", "one", "101")
    server.event("BOOKMARK", "", "107")
    server.event("DELETED", "one", "108")
    server.lines.put_nowait(None)
    server.event("ADDED", "two", "109")
    assert [await anext(documents), await anext(documents)] == ["one", "two"]
    assert [query.get("resourceVersion") for query in server.queries] == [None, "100", "108"]


@pytest.mark.parametrize(
    "broken",
    [
        b'{"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}\n',
        b'{"type": "MODIFIED", "object": {"metadata": {"reso',
        b"<html>bad gateway</html>\n",
    ],
)
async def test_a_broken_watch_is_begun_again_with_a_list(
    server: ApiServer, documents: AsyncIterator[str], broken: bytes
) -> None:
    server.lists.put_nowait((200, "one"))
    server.lines.put_nowait(broken)
    server.lines.put_nowait(None)
    server.lists.put_nowait((200, "two"))
    assert [await anext(documents), await anext(documents)] == ["one", "two"]


async def test_errors_of_the_api_server_are_waited_out(server: ApiServer, documents: AsyncIterator[str]) -> None:
    for status in (500, 429, 403, 200):
        server.lists.put_nowait((status, "one"))
    assert await anext(documents) == "one"


async def test_a_document_may_be_as_large_as_a_config_map(server: ApiServer, documents: AsyncIterator[str]) -> None:
    server.lists.put_nowait((200, None))
    server.event("ADDED", "x" * 1_000_000, "101")
    assert len(await anext(documents)) == 1_000_000
