"""A small client of the API server for the driver and the stand-ins: not the one that is measured."""

import asyncio
import json
import ssl
import tempfile
from base64 import b64decode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

Manifest = dict[str, Any]

PAGE = 500
AT_ONCE = 16


class KubeApi:
    """Plain requests; anything but success is an error."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """The object in the answer; RuntimeError for an answer that is no success."""
        headers = {"Content-Type": content_type}
        data = None if body is None else json.dumps(body)
        async with (
            self._slots,
            self._session.request(method, self._server + path, data=data, headers=headers) as answer,
        ):
            text = await answer.text()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
            return json.loads(text)

    async def create(self, path: str, manifest: Manifest) -> Manifest:
        created: Manifest = await self.request("POST", path, manifest)
        return created

    async def merge(self, path: str, patch: Manifest) -> Manifest:
        """JSON merge patch."""
        merged: Manifest = await self.request("PATCH", path, patch, "application/merge-patch+json")
        return merged

    async def apply(self, path: str, manifest: Manifest) -> Manifest:
        query = "?fieldManager=bench&force=true"
        applied: Manifest = await self.request("PATCH", path + query, manifest, "application/apply-patch+yaml")
        return applied

    async def delete(self, path: str) -> None:
        """Delete; what is gone already is fine."""
        try:
            await self.request("DELETE", path, {"propagationPolicy": "Background", "gracePeriodSeconds": 0})
        except RuntimeError as error:
            if " 404 " not in str(error):
                raise

    async def list(self, path: str) -> tuple[list[Manifest], str]:
        """All objects, and the resourceVersion to watch from."""
        items: list[Manifest] = []
        token = ""
        while True:
            page = await self.request("GET", f"{path}?limit={PAGE}&continue={token}")
            items += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return items, page["metadata"]["resourceVersion"]

    async def follow(self, path: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Every object as ADDED, then each change as it comes; begins anew where the watch ends."""
        while True:
            items, version = await self.list(path)
            for item in items:
                yield "ADDED", item
            url = f"{self._server}{path}?watch=1&resourceVersion={version}"
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as answer:
                async for line in _lines(answer.content):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    yield event["type"], event["object"]


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: aiohttp's own end at 64 kB."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[KubeApi]:
    """A client with the credentials of a kubeconfig in JSON, as hack/cluster writes them."""
    config = json.loads(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "client.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
        context.load_cert_chain(pair)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield KubeApi(session, cluster["server"])


async def all_of(awaitables: Iterable[Any]) -> None:
    """Wait for all; the first error ends the bench."""
    async with asyncio.TaskGroup() as group:
        for each in awaitables:
            group.create_task(each)
