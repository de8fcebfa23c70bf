"""The gateways behind a fake: pods that are Ready and acknowledge the route document a moment after it is published."""

import asyncio
import json

from aiohttp import web
from bench.operator.kube_api import KubeApi
from bench.operator.ray import running

from modelyard_gateway.published import published_text
from modelyard_gateway.routes import CONFIG_MAP

NAMESPACE = "modelyard"
LABELS = {"app.kubernetes.io/name": "modelyard", "app.kubernetes.io/component": "gateway"}
ADDRESSES = ("127.8.0.1", "127.8.0.2")
APPLY_S = 0.05
"""A real agent takes 0.1 s for 1,000 new routes, and less for one."""


class FakeGateways:
    """Two of them, always of the same opinion."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._version: str | None = None

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/status", self._status)]

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self._version})

    async def start(self) -> None:
        """Make the pods."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        for number, address in enumerate(ADDRESSES):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"gateway-{number}", "labels": LABELS},
                "spec": {"containers": [{"name": "gateway", "image": "bench"}]},
            }
            await self._api.create(path, pod)
            await self._api.merge(f"{path}/gateway-{number}/status", {"status": running(address)})

    async def follow(self) -> None:
        """Take up each document, until cancelled."""
        async for event, manifest in self._api.follow(f"/api/v1/namespaces/{NAMESPACE}/configmaps"):
            if event != "DELETED" and manifest["metadata"]["name"] == CONFIG_MAP:
                text = published_text(manifest.get("data"), manifest.get("binaryData"))
                version = json.loads(text or "{}").get("version")
                await asyncio.sleep(APPLY_S)
                self._version = version
