"""Which loops an event starts and wakes."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import kopf
import pytest
from tests.unit.fakes.kube import FakeKube

from modelyard_operator import handlers
from modelyard_operator.desired.names import MANAGED_LABEL
from modelyard_operator.handlers import Memo
from modelyard_operator.kube.aio_client import AioKubeClient
from modelyard_operator.kube.client import (
    ACCELERATOR_POOL,
    CONTROLLER_REVISION,
    MODEL_SERVICE,
    SERVING_CLUSTER,
    Kind,
    Manifest,
)
from modelyard_operator.kube.stored import Completion
from modelyard_operator.reconcile.deaths import PodDeaths
from modelyard_operator.reconcile.finalizer import FINALIZER
from modelyard_operator.reconcile.heartbeat import Heartbeat
from modelyard_operator.reconcile.loop import Loops
from modelyard_operator.reconcile.metrics import Metrics
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.routes import ROUTES
from modelyard_operator.reconcile.wakeups import Wakeups
from modelyard_operator.reconcile.watched import new_store

OTHER_SERVICE, DEFAULT, OWN = Key("other", "y"), Key("platform", "shared"), Key("team", "own")
CLUSTER_LABELS = {"modelyard.dev/serving-cluster": "own", "modelyard.dev/serving-cluster-namespace": "team"}


@dataclass
class SeenOnly:
    """Loops that only note what was seen."""

    seen_: list[tuple[str, Key]] = field(default_factory=list)

    def seen(self, kind: Kind, key: Key) -> None:
        self.seen_.append((kind.kind, key))


class Watched:
    """A memo, and the loops that listen."""

    def __init__(self) -> None:
        self.loops = SeenOnly()
        self.wakeups = Wakeups()
        self.now = 0.0
        self.heartbeat = Heartbeat(lambda: self.now, 120)
        self.metrics = Metrics("1")
        self.memo = Memo(
            kube=cast("AioKubeClient", None),
            loops=cast("Loops", self.loops),
            wakeups=self.wakeups,
            heartbeat=self.heartbeat,
            metrics=self.metrics,
            deaths=PodDeaths(),
            store=(store := new_store(DEFAULT)),
            completion=Completion(FakeKube(), store, every_s=300),
            default_cluster=DEFAULT,
            stop=asyncio.Event(),
        )
        self.listening = [
            (MODEL_SERVICE, OTHER_SERVICE),
            (SERVING_CLUSTER, DEFAULT),
            (SERVING_CLUSTER, OWN),
            ROUTES,
        ]

    def woken(self) -> set[str]:
        """Who was woken since the last time."""
        found = set()
        for kind, key in self.listening:
            if self.wakeups.is_woken(kind, key):
                found.add(f"{kind.kind} {key}")
                self.wakeups._flags[kind][key].clear()
        return found


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    contexts = [made.wakeups.listening(kind, key) for kind, key in made.listening]
    for context in contexts:
        context.__enter__()
    yield made
    for context in contexts:
        context.__exit__(None, None, None)


def event(what: str | None, manifest: dict[str, Any], **metadata: Any) -> kopf.RawEvent:
    named = {"name": "x", "namespace": "team", "generation": 1, **metadata}
    return cast("kopf.RawEvent", {"type": what, "object": {**manifest, "metadata": named}})


async def test_a_new_service_starts_its_loop_and_wakes_its_cluster_and_the_routes(watched: Watched) -> None:
    await handlers.model_service_seen(watched.memo, event("ADDED", {"spec": {}}))
    assert watched.loops.seen_ == [("ModelService", Key("team", "x"))]
    assert watched.woken() == {"ServingCluster platform/shared", "Routes routes"}


@pytest.mark.parametrize("named", [{"name": "own"}, {"name": "own", "namespace": "team"}])
async def test_a_service_that_names_its_cluster_wakes_that_one(watched: Watched, named: dict[str, str]) -> None:
    await handlers.model_service_seen(watched.memo, event("ADDED", {"spec": {"servingCluster": named}}))
    assert watched.woken() == {"ServingCluster team/own", "Routes routes"}


async def test_a_service_of_a_platform_without_default_cluster_wakes_no_cluster(watched: Watched) -> None:
    watched.memo.default_cluster = None
    await handlers.model_service_seen(watched.memo, event("ADDED", {"spec": {}}))
    assert watched.woken() == {"Routes routes"}


async def test_a_change_of_status_wakes_the_service_itself_and_nobody_else(watched: Watched) -> None:
    await handlers.model_service_seen(watched.memo, event(None, {"spec": {}}))
    watched.woken()
    await handlers.model_service_seen(watched.memo, event("MODIFIED", {"spec": {}}))
    assert len(watched.loops.seen_) == 2
    assert watched.woken() == set()
    await handlers.model_service_seen(watched.memo, event("MODIFIED", {"spec": {}}, generation=2))
    assert watched.woken() == {"ServingCluster platform/shared", "Routes routes"}


async def test_its_own_status_wakes_nobody_but_a_new_spec_and_what_others_write_do(watched: Watched) -> None:
    def seen(what: str | None, version: int, generation: int = 1) -> kopf.RawEvent:
        return event(what, {"spec": {}}, uid="u", resourceVersion=str(version), generation=generation)

    async def loops_woken(each: kopf.RawEvent) -> int:
        before = len(watched.loops.seen_)
        await handlers.noted(MODEL_SERVICE, handlers.model_service_seen)(watched.memo, each)
        return len(watched.loops.seen_) - before

    def write(version: int, generation: int = 1) -> kopf.RawEvent:
        mine = seen("MODIFIED", version, generation)
        watched.memo.store.note_own(MODEL_SERVICE, cast("Manifest", mine["object"]))
        return mine

    assert await loops_woken(write(1)) == 1, "its loop is not there yet"
    assert await loops_woken(write(2)) == 0
    assert await loops_woken(seen("MODIFIED", 3)) == 1
    assert await loops_woken(write(4, generation=2)) == 1, "the edit itself was missed"


async def test_a_child_that_stands_as_it_was_written_wakes_nobody_and_any_other_does(watched: Watched) -> None:
    def revision(what: str, version: int) -> kopf.RawEvent:
        labels = {MANAGED_LABEL: "true", "modelyard.dev/service": "y"}
        named = {"namespace": "other", "labels": labels, "uid": "u", "resourceVersion": str(version)}
        return event(what, {"apiVersion": "apps/v1", "kind": "ControllerRevision"}, **named)

    async def woken(each: kopf.RawEvent) -> set[str]:
        await handlers.noted(CONTROLLER_REVISION, handlers.revision_seen)(watched.memo, each)
        return watched.woken()

    mine = revision("MODIFIED", 2)
    watched.memo.store.note_own(CONTROLLER_REVISION, cast("Manifest", mine["object"]))
    assert await woken(mine) == set()
    assert await woken(revision("MODIFIED", 3)) == {"ModelService other/y"}
    watched.memo.store.note_own(CONTROLLER_REVISION, cast("Manifest", revision("MODIFIED", 4)["object"]))
    assert await woken(revision("DELETED", 4)) == {"ModelService other/y"}


async def test_a_service_that_is_gone_starts_no_loop(watched: Watched) -> None:
    await handlers.model_service_seen(watched.memo, event("DELETED", {"spec": {}}))
    assert watched.loops.seen_ == []
    assert watched.woken() == {"ServingCluster platform/shared", "Routes routes"}


async def test_services_are_counted_by_the_reason_of_their_ready_condition(watched: Watched) -> None:
    conditions = [{"type": "Accepted", "reason": "Valid"}, {"type": "Ready", "reason": "Serving"}]
    await handlers.model_service_seen(watched.memo, event(None, {"status": {"conditions": conditions}}))
    await handlers.model_service_seen(watched.memo, event(None, {"spec": {}}, name="fresh"))
    for reason in ("Serving", "Unknown"):
        labels = {"reason": reason}
        assert watched.metrics.registry.get_sample_value("modelyard_model_services", labels) == 1


async def test_a_new_cluster_wakes_the_services_that_may_wait_for_it(watched: Watched) -> None:
    await handlers.serving_cluster_seen(watched.memo, event("ADDED", {}))
    assert watched.loops.seen_ == [("ServingCluster", Key("team", "x"))]
    assert watched.woken() == {"ModelService other/y"}
    await handlers.serving_cluster_seen(watched.memo, event("MODIFIED", {}))
    assert watched.woken() == set()


async def test_a_changed_pool_wakes_all_services_and_clusters(watched: Watched) -> None:
    await handlers.accelerator_pool_seen(watched.memo, event("ADDED", {}, namespace=""))
    assert watched.loops.seen_ == [(ACCELERATOR_POOL.kind, Key("", "x"))]
    clusters = {"ServingCluster platform/shared", "ServingCluster team/own"}
    assert watched.woken() == {"ModelService other/y", *clusters}


async def test_a_revision_wakes_its_service(watched: Watched) -> None:
    labels = {"modelyard.dev/service": "y"}
    await handlers.revision_seen(watched.memo, event("MODIFIED", {}, namespace="other", labels=labels))
    assert watched.woken() == {"ModelService other/y"}


async def test_ray_clusters_and_pods_wake_their_serving_cluster(watched: Watched) -> None:
    await handlers.part_of_cluster_seen(watched.memo, event("MODIFIED", {}, labels=CLUSTER_LABELS))
    assert watched.woken() == {"ServingCluster team/own"}


async def test_children_that_lost_their_labels_wake_nobody(watched: Watched) -> None:
    await handlers.revision_seen(watched.memo, event("MODIFIED", {}))
    await handlers.part_of_cluster_seen(watched.memo, event("MODIFIED", {}))
    assert watched.woken() == set()


async def test_the_probe_fails_while_a_loop_is_stuck_and_then_heals(watched: Watched) -> None:
    with watched.heartbeat.working("ModelService team/x"):
        watched.now = 119
        assert await handlers.loops_alive(watched.memo) == "ok"
        watched.now = 121
        with pytest.raises(kopf.PermanentError, match="ModelService team/x has been at work for 121 s"):
            await handlers.loops_alive(watched.memo)
    assert await handlers.loops_alive(watched.memo) == "ok"


def test_kopf_is_left_no_reason_to_write_to_any_object() -> None:
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    handlers.register(registry)
    handlers.watch_settings(settings)
    assert registry._spawning.get_all_handlers() == []
    assert registry._changing.get_all_handlers() == []
    assert settings.persistence.finalizer != FINALIZER
    patch, essence = kopf.Patch(), kopf.BodyEssence({})
    settings.persistence.diffbase_storage.store(body=kopf.Body({}), patch=patch, essence=essence)
    assert patch == {}


def test_kopf_never_gives_up_on_the_api_server() -> None:
    for _ in range(2):
        waits = iter(handlers.Backoffs())
        taken = [next(waits) for _ in range(1000)]
        assert taken[:4] == [1, 2, 4, 8]
        assert all(10 <= wait <= 20 for wait in taken[4:])


async def test_a_namespace_wakes_the_services_in_it(watched: Watched) -> None:
    in_it = Key("team", "x")
    with watched.wakeups.listening(MODEL_SERVICE, in_it):
        await handlers.namespace_seen(watched.memo, cast("Any", {"object": {"metadata": {"name": "team"}}}))
        assert watched.wakeups.is_woken(MODEL_SERVICE, in_it)
    assert watched.woken() == set()
