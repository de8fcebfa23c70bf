"""The agent's own HTTP: status for the operator, probes for the kubelet, metrics for Prometheus."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import aiohttp
from aiohttp import web

from modelyard_gateway.agent import Agent, Status

_SCRAPE = aiohttp.ClientTimeout(total=5)
# Free slots are no servers; the exporter leaves them out when asked.
_EXPORTER = "http://haproxy/metrics?no-maint"


def application(agent: Agent, metrics_socket: Path) -> web.Application:
    """The routes `/status`, `/healthz`, `/readyz` and `/metrics`."""

    async def status(_: web.Request) -> web.Response:
        return web.json_response(asdict(agent.status))

    async def healthz(_: web.Request) -> web.Response:
        return _probe("the agent's loop turns", "the agent's loop is stuck", ok=agent.alive)

    async def readyz(_: web.Request) -> web.Response:
        return _probe("HAProxy serves", agent.status.error or "no route document is in effect", ok=agent.ready)

    async def metrics(_: web.Request) -> web.Response:
        text = "".join(f"{line}\n" for line in _agent_metrics(agent.status)) + await _haproxy_metrics(metrics_socket)
        return web.Response(text=text, content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.add_routes(
        [
            web.get("/status", status),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
        ]
    )
    return app


def _probe(well: str, otherwise: str, *, ok: bool) -> web.Response:
    return web.Response(text=f"{well if ok else otherwise}\n", status=200 if ok else 503)


def _agent_metrics(status: Status) -> Iterator[str]:
    yield "# HELP modelyard_gateway_document_info The route document in effect."
    yield "# TYPE modelyard_gateway_document_info gauge"
    if status.version is not None:
        yield f'modelyard_gateway_document_info{{version="{status.version}"}} 1'
    yield "# HELP modelyard_gateway_error Whether the newest document is refused or HAProxy unwell."
    yield "# TYPE modelyard_gateway_error gauge"
    yield f"modelyard_gateway_error {int(status.error is not None)}"
    yield "# HELP modelyard_gateway_haproxy_reloads_total Reloads of HAProxy."
    yield "# TYPE modelyard_gateway_haproxy_reloads_total counter"
    yield f"modelyard_gateway_haproxy_reloads_total {status.reloads}"
    yield "# HELP modelyard_gateway_haproxy_starts_total Starts of HAProxy; more than one means that it died."
    yield "# TYPE modelyard_gateway_haproxy_starts_total counter"
    yield f"modelyard_gateway_haproxy_starts_total {status.starts}"


async def _haproxy_metrics(socket: Path) -> str:
    """What HAProxy's exporter says; nothing while HAProxy is not there, which the starts tell."""
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)), timeout=_SCRAPE) as session,
            session.get(_EXPORTER) as response,
        ):
            return await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return ""
