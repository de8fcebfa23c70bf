"""What the operator watches, and which loops each event wakes. Nothing is decided here.

Events start the loops of our three kinds and wake those of their neighbours; kopf writes to no object (no daemon, no
change handler, see docs/design/loops.md) and its finalizer is unused.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from modelyard_operator.desired.names import (
    CLUSTER_LABEL,
    CLUSTER_NAMESPACE_LABEL,
    SERVICE_LABEL,
)
from modelyard_operator.kube.aio_client import AioKubeClient, cleaned
from modelyard_operator.kube.client import (
    ACCELERATOR_POOL,
    CONTROLLER_REVISION,
    MODEL_SERVICE,
    NAMESPACE,
    POD,
    RAY_CLUSTER,
    SERVING_CLUSTER,
    Kind,
)
from modelyard_operator.kube.store import Store
from modelyard_operator.kube.stored import Completion
from modelyard_operator.reconcile.deaths import PodDeaths
from modelyard_operator.reconcile.heartbeat import Heartbeat
from modelyard_operator.reconcile.loop import Loops
from modelyard_operator.reconcile.metrics import Metrics
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.routes import ROUTES
from modelyard_operator.reconcile.wakeups import Wakeups
from modelyard_operator.reconcile.watched import CHILDREN, MANAGED, cluster_of

Handler = Callable[..., Awaitable[None]]


@dataclass
class Memo:
    """What handlers need. kopf gives each object a copy of its own, which remembers that object's generation."""

    kube: AioKubeClient
    loops: Loops
    wakeups: Wakeups
    heartbeat: Heartbeat
    metrics: Metrics
    deaths: PodDeaths
    store: Store
    completion: Completion
    default_cluster: tuple[str, str] | None
    stop: asyncio.Event
    """Raised where the operator is to end, for example because another one has taken the Lease."""
    generation: int | None = None
    listed: bool = False
    """Whether the object was in a LIST of kopf's before."""

    def note(self, kind: Kind, event: Mapping[str, Any]) -> None:
        """Keep what an event tells, and what it does not: after a second LIST of kopf's, deletions may be missing."""
        if event["type"] == "DELETED":
            self.store.note_deleted(kind, event["object"])
            return
        self.store.note(kind, cleaned(event["object"], kind))
        if event["type"] is None:
            if self.listed:
                self.completion.ask(kind)
            self.listed = True

    def seen(self, kind: Kind, key: Key, event: Mapping[str, Any]) -> bool:
        """Start or wake the loop of one of our objects; whether its spec is new to us, or it is gone."""
        if event["type"] == "DELETED":
            self.wakeups.wake(kind, key)
            return True
        before, self.generation = self.generation, event["object"]["metadata"].get("generation")
        is_new = before != self.generation
        # Its loop, and no other, writes its status, and comes back by itself.
        if is_new or not self.store.is_own(event["object"]):
            self.loops.seen(kind, key)
        return is_new


def register(registry: kopf.OperatorRegistry) -> None:
    """Put all handlers into `registry`."""
    kopf.on.login(registry=registry)(login)
    kopf.on.cleanup(registry=registry)(stop_loops)
    kopf.on.probe(registry=registry, id="loops")(loops_alive)
    watched = {
        MODEL_SERVICE: model_service_seen,
        SERVING_CLUSTER: serving_cluster_seen,
        ACCELERATOR_POOL: accelerator_pool_seen,
        CONTROLLER_REVISION: revision_seen,
        RAY_CLUSTER: part_of_cluster_seen,
        POD: pod_seen,
        NAMESPACE: namespace_seen,
    }
    for kind, seen in watched.items():
        kopf.on.event(kind.api_version, kind.plural, registry=registry)(noted(kind, seen))


def noted(kind: Kind, seen: Handler) -> Handler:
    """A handler that finds in the store what its event tells."""

    async def handle(memo: Memo, event: kopf.RawEvent, **_: Any) -> None:
        memo.note(kind, event)
        if kind in CHILDREN and event["type"] != "DELETED" and memo.store.is_own(event["object"]):
            return  # The loop that this would wake is the one that wrote it, and it comes back by itself.
        await seen(memo=memo, event=event)

    return handle


async def model_service_seen(memo: Memo, event: kopf.RawEvent, **_: Any) -> None:
    """Its own loop; for a new spec also the loop of its ServingCluster and the publisher of routes."""
    manifest = event["object"]
    key = _key(manifest)
    if event["type"] != "DELETED":
        memo.metrics.service_ready(key, ready_reason(manifest))
    if memo.seen(MODEL_SERVICE, key, event):
        cluster = cluster_of(manifest, memo.default_cluster)
        if cluster is not None:
            memo.wakeups.wake(SERVING_CLUSTER, cluster)
        memo.wakeups.wake(*ROUTES)


async def serving_cluster_seen(memo: Memo, event: kopf.RawEvent, **_: Any) -> None:
    """Its own loop; for a new spec also those of all services, which may have waited for it."""
    if memo.seen(SERVING_CLUSTER, _key(event["object"]), event):
        memo.wakeups.wake_all(MODEL_SERVICE)


async def accelerator_pool_seen(memo: Memo, event: kopf.RawEvent, **_: Any) -> None:
    """Its own loop; for a new spec also those of all services and clusters, which size by it."""
    if memo.seen(ACCELERATOR_POOL, _key(event["object"]), event):
        memo.wakeups.wake_all(MODEL_SERVICE)
        memo.wakeups.wake_all(SERVING_CLUSTER)


async def revision_seen(memo: Memo, event: kopf.RawEvent, **_: Any) -> None:
    """The loop of its service, by its owner: somebody may have changed its labels."""
    metadata = cast("Mapping[str, Any]", event["object"]["metadata"])
    names = [owner["name"] for owner in metadata.get("ownerReferences") or [] if owner.get("controller")]
    for name in {*names, (metadata.get("labels") or {}).get(SERVICE_LABEL, "")}:
        memo.wakeups.wake(MODEL_SERVICE, Key(metadata["namespace"], name))


async def part_of_cluster_seen(memo: Memo, event: kopf.RawEvent, **_: Any) -> None:
    """The loop of the ServingCluster that a RayCluster or a Ray pod belongs to."""
    labels = event["object"]["metadata"].get("labels") or {}
    key = Key(labels.get(CLUSTER_NAMESPACE_LABEL, ""), labels.get(CLUSTER_LABEL, ""))
    memo.wakeups.wake(SERVING_CLUSTER, key)


async def pod_seen(memo: Memo, event: kopf.RawEvent, **_: Any) -> None:
    """What it died of, and the loop of its ServingCluster."""
    memo.deaths.note(dict(event["object"]), datetime.now(UTC))
    await part_of_cluster_seen(memo=memo, event=event)


async def namespace_seen(memo: Memo, event: kopf.RawEvent, **_: Any) -> None:
    """The loops of the services in it: its labels decide what they may use."""
    memo.wakeups.wake_namespace(MODEL_SERVICE, event["object"]["metadata"]["name"])


async def login(memo: Memo, **_: Any) -> kopf.ConnectionInfo:
    """kopf's connection: the same as that of the operator's own client."""
    credentials = await memo.kube.credentials()
    return kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_path,
        insecure=credentials.insecure,
        token=credentials.token,
        certificate_path=credentials.certificate_path,
        private_key_path=credentials.private_key_path,
    )


async def loops_alive(memo: Memo, **_: Any) -> str:
    """The liveness probe: fails while a loop does not finish what it began."""
    stuck = memo.heartbeat.stuck()
    if stuck:
        # Any other exception would be tried again, with the probe's request left waiting.
        raise kopf.PermanentError("; ".join(stuck))
    return "ok"


async def stop_loops(memo: Memo, **_: Any) -> None:
    """End the loops, and what waits for the flag, before kopf begins to wait for the tasks that are left."""
    await memo.loops.stop()
    memo.stop.set()


def _key(manifest: Mapping[str, Any]) -> Key:
    return Key(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])


def ready_reason(body: Mapping[str, Any]) -> str:
    """The reason of the Ready condition; Unknown before there is one."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((str(each["reason"]) for each in conditions if each.get("type") == "Ready"), "Unknown")


def watch_settings(settings: kopf.OperatorSettings) -> None:
    """How kopf watches: only our children, in pages, never silent for long, never giving up."""
    # kopf takes a finalizer of this name off every object for which it runs no daemon: it must not be our own.
    settings.persistence.finalizer = "modelyard.dev/kopf"
    settings.persistence.diffbase_storage = NoDiffs()
    settings.posting.loggers = False
    settings.peering.standalone = True
    # KubeRay's CRD may come after us: kopf watches CRDs and begins with RayClusters when they can be watched.
    settings.scanning.disabled = False
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = Backoffs()
    for kind in CHILDREN:
        settings.watching.label_selectors[kind.api_version, kind.plural] = MANAGED


class NoDiffs(kopf.DiffBaseStorage):
    """What kopf compares objects by, for handlers of changes: there are none, so it need not copy each object."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return


class Backoffs:
    """Seconds between attempts to reach the API server, without end: the gateways serve on, and so do we wait."""

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 2.0, 4.0, 8.0)
        while True:
            yield random.uniform(10.0, 20.0)
