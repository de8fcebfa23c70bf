"""The operator's process: settings, adapters, loops and kopf, put together and kept running."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version

import aiohttp
import kopf
from prometheus_client import disable_created_metrics, start_http_server
from pydantic import ValidationError

from modelyard_operator import handlers, logs
from modelyard_operator.gateway.http_client import HttpGatewayClient
from modelyard_operator.kube.aio_client import connect
from modelyard_operator.kube.client import ACCELERATOR_POOL, MODEL_SERVICE, SERVING_CLUSTER, KubeClient
from modelyard_operator.kube.stored import Completion
from modelyard_operator.ray.http_client import HttpProber, HttpServeClients
from modelyard_operator.reconcile.accelerator_pool import AcceleratorPoolLoop
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.events import EventRecorder
from modelyard_operator.reconcile.heartbeat import Heartbeat
from modelyard_operator.reconcile.lease import Identity, Lease
from modelyard_operator.reconcile.leased_kube import LeasedKube
from modelyard_operator.reconcile.loop import Controlled, Loops
from modelyard_operator.reconcile.metrics import Metrics
from modelyard_operator.reconcile.model_service import ModelServiceLoop
from modelyard_operator.reconcile.routes import ROUTES, RoutePublisher
from modelyard_operator.reconcile.serving_cluster import ServingClusterLoop
from modelyard_operator.settings import Settings

logger = logging.getLogger(__name__)

_FIRST_LISTS_S = 30.0


@asynccontextmanager
async def assembled(settings: Settings, metrics: Metrics) -> AsyncIterator[handlers.Memo]:
    """All parts of the operator, connected; its loops and background tasks end with the block."""
    async with (
        connect(observe=metrics.kube_request) as api,
        # Renewals must not queue behind the requests of all loops.
        connect(observe=metrics.kube_request) as renewing,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, limit_per_host=20)) as session,
    ):
        lease = _lease(settings, renewing, metrics)
        kube = LeasedKube(api, lease)
        recorder = EventRecorder(api)
        app = App(
            kube=kube,
            serve_clients=HttpServeClients(session, observe=metrics.serve_put),
            prober=HttpProber(session),
            gateways=HttpGatewayClient(session),
            settings=settings,
            events=recorder,
            lease=lease,
        )
        heartbeat = Heartbeat(time.monotonic, settings.stuck_after_s)
        loops = Loops(
            kube=kube,
            kinds={
                MODEL_SERVICE: Controlled(ModelServiceLoop(app).reconcile, finalizer=True),
                SERVING_CLUSTER: Controlled(ServingClusterLoop(app).reconcile, finalizer=True),
                ACCELERATOR_POOL: Controlled(AcceleratorPoolLoop(app).reconcile, finalizer=False),
                ROUTES[0]: Controlled(RoutePublisher(app).reconcile, finalizer=False),
            },
            wakeups=app.wakeups,
            heartbeat=heartbeat,
            metrics=metrics,
            resync_s=settings.resync_s,
            permitted=lease.wait,
        )
        completion = Completion(app.kube, app.store, every_s=settings.resync_s)
        lists = asyncio.create_task(completion.run(), name="complete lists")
        writer = asyncio.create_task(recorder.write_forever(), name="event writer")
        stop = asyncio.Event()
        holding = asyncio.create_task(lease.hold(), name="lease")
        holding.add_done_callback(lambda _: stop.set())
        try:
            # Loops that begin before the store is whole ask the API server, each for everything.
            with suppress(TimeoutError):
                await asyncio.wait_for(completion.started.wait(), _FIRST_LISTS_S)
            loops.seen(*ROUTES)
            yield handlers.Memo(
                kube=api,
                loops=loops,
                wakeups=app.wakeups,
                heartbeat=heartbeat,
                metrics=metrics,
                deaths=app.deaths,
                store=app.store,
                completion=completion,
                default_cluster=app.default_cluster,
                stop=stop,
            )
        finally:
            await loops.stop()
            for task in (holding, lists, writer):
                task.cancel()
            await asyncio.gather(holding, lists, writer, return_exceptions=True)
            await lease.release()


def _lease(settings: Settings, kube: KubeClient, metrics: Metrics) -> Lease:
    lease = Lease(
        kube,
        settings.namespace,
        Identity(settings.pod_name, settings.pod_uid),
        # Unlike the monotonic clock this one goes on while the machine sleeps.
        clock=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        now=lambda: datetime.now(UTC),
        refused=metrics.writes_refused.inc,
    )
    metrics.lease_held.set_function(lambda: float(lease.held))
    return lease


async def operate(settings: Settings, metrics: Metrics) -> None:
    """Run until SIGTERM or SIGINT, or until a watch ends for good: then the pod starts anew."""
    registry = kopf.OperatorRegistry()
    handlers.register(registry)
    kopf_settings = kopf.OperatorSettings()
    handlers.watch_settings(kopf_settings)
    async with assembled(settings, metrics) as memo:
        logger.info("operator %s started in namespace %s", version("modelyard"), settings.namespace)
        await kopf.operator(
            registry=registry,
            settings=kopf_settings,
            memo=memo,
            stop_flag=memo.stop,
            clusterwide=True,
            standalone=True,
            liveness_endpoint=f"http://0.0.0.0:{settings.probe_port}/healthz",
        )
    logger.info("operator stopped")


def main() -> int:
    """The process's exit code: 0 when it was told to stop, 2 for settings that are missing or wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "MODELYARD_" + "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"{name}: {fault['msg']}\n")
        return 2
    logs.configure(settings.log_level)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics(version("modelyard"))
    server, thread = start_http_server(settings.metrics_port, registry=metrics.registry)
    try:
        asyncio.run(operate(settings, metrics))
    finally:
        server.shutdown()
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
