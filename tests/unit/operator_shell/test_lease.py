"""The Lease: one holder at any time, whatever freezes, dies or is unreachable."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.fakes.kube import FakeKube
from tests.unit.fakes.virtual_time import run_virtually

from modelyard_operator.kube.client import LEASE, MODEL_SERVICE, RAY_CLUSTER, Manifest
from modelyard_operator.kube.errors import Unavailable
from modelyard_operator.reconcile.lease import DURATION_S, MARGIN_S, NAME, RENEW_S, Identity, Lease, NotHolder
from modelyard_operator.reconcile.leased_kube import LeasedKube

SPACE = "modelyard"


@dataclass
class Stage:
    """An API server, and operators with clocks that go on while one is frozen."""

    kube: FakeKube = field(default_factory=FakeKube)
    seconds: float = 1000.0
    refused: list[str] = field(default_factory=list)

    def operator(self, process: str, pod: tuple[str, str] = ("", "")) -> Lease:
        return Lease(
            self.kube,
            SPACE,
            Identity(*pod, process=process),
            clock=lambda: self.seconds,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds),
            refused=lambda: self.refused.append(process),
        )

    @property
    def holder(self) -> str:
        found = self.kube.find(LEASE, NAME, namespace=SPACE)
        return str(found["spec"]["holderIdentity"]) if found else ""

    def edit(self, **spec: object) -> None:
        found = self.kube.find(LEASE, NAME, namespace=SPACE)
        assert found is not None
        self.kube.put({**found, "spec": {**found["spec"], **spec}})


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_the_first_one_holds_and_the_second_waits(stage: Stage) -> None:
    first, second = stage.operator("a"), stage.operator("b")
    assert not first.held
    await first.attempt()
    await second.attempt()
    assert (first.held, second.held) == (True, False)
    for _ in range(20):
        stage.seconds += RENEW_S
        await first.attempt()
        await second.attempt()
        assert (first.held, second.held) == (True, False)
    await first.confirm()
    with pytest.raises(NotHolder, match="modelyard/modelyard-operator"):
        await second.confirm()
    assert stage.refused == ["b"]


async def test_a_holder_stops_before_a_successor_may_start(stage: Stage) -> None:
    """At each tenth of a second of an outage of the first at most one of both may write."""
    first, second = stage.operator("a"), stage.operator("b")
    await first.attempt()
    last_of_first = first_of_second = 0.0
    for tenth in range(1, 150):
        stage.seconds = 1000 + tenth / 10
        await second.attempt()
        assert not (first.held and second.held)
        last_of_first = tenth / 10 if first.held else last_of_first
        first_of_second = first_of_second or (tenth / 10 if second.held else 0.0)
    assert last_of_first == pytest.approx(DURATION_S - MARGIN_S, abs=0.2)
    assert first_of_second == pytest.approx(DURATION_S, abs=0.2)


async def test_one_that_was_frozen_may_not_write_and_ends(stage: Stage) -> None:
    frozen, successor = stage.operator("a"), stage.operator("b")
    await frozen.attempt()
    await successor.attempt()
    stage.seconds += DURATION_S
    await successor.attempt()
    assert successor.held
    with pytest.raises(NotHolder):
        frozen.check()
    with pytest.raises(NotHolder):
        await frozen.confirm()
    assert await frozen.attempt() is True
    assert successor.held
    assert stage.holder == "__b"


async def test_one_that_was_frozen_while_it_renewed_wins_nothing(stage: Stage) -> None:
    frozen, successor = stage.operator("a"), stage.operator("b")
    await frozen.attempt()
    await successor.attempt()
    read = stage.kube.get

    async def get_and_freeze(*args: object, **kwargs: object) -> Manifest | None:
        stage.kube.get = read  # type: ignore[method-assign]
        found = await read(*args, **kwargs)  # type: ignore[arg-type]
        stage.seconds += DURATION_S
        await successor.attempt()
        return found

    stage.kube.get = get_and_freeze  # type: ignore[method-assign]
    assert await frozen.attempt() is False
    assert (frozen.held, successor.held) == (False, True)
    assert await frozen.attempt() is True


async def test_an_answer_that_comes_late_lasts_from_when_it_was_asked_for(stage: Stage) -> None:
    slow = stage.operator("a")
    await slow.attempt()
    write = stage.kube.apply

    async def slowly(manifest: Manifest) -> Manifest:
        done = await write(manifest)
        stage.seconds += DURATION_S
        return done

    stage.kube.apply = slowly  # type: ignore[method-assign]
    await slow.attempt()
    assert not slow.held


async def test_a_release_lets_the_successor_begin_at_once(stage: Stage) -> None:
    first, second = stage.operator("a"), stage.operator("b")
    await first.attempt()
    await second.attempt()
    await first.release()
    assert not first.held
    await second.attempt()
    assert second.held


async def test_who_holds_nothing_releases_nothing(stage: Stage) -> None:
    first, second = stage.operator("a"), stage.operator("b")
    await first.attempt()
    await second.release()
    stage.seconds += DURATION_S
    await second.attempt()
    stage.seconds += DURATION_S
    await second.attempt()
    await first.release()
    assert stage.holder == "__b"


async def test_a_container_takes_over_at_once_from_the_one_before_in_its_pod(stage: Stage) -> None:
    before, other = stage.operator("a", pod=("op-1", "uid-1")), stage.operator("b", pod=("op-2", "uid-2"))
    await before.attempt()
    after = stage.operator("c", pod=("op-1", "uid-1"))
    await other.attempt()
    await after.attempt()
    assert (other.held, after.held) == (False, True)


async def test_processes_outside_of_pods_are_not_taken_for_each_other(stage: Stage) -> None:
    await stage.operator("a").attempt()
    second = stage.operator("b")
    await second.attempt()
    assert not second.held


async def test_a_lease_that_somebody_gave_to_another_stops_writes_to_ray_at_once(stage: Stage) -> None:
    lease = stage.operator("a")
    await lease.attempt()
    stage.edit(holderIdentity="somebody")
    lease.check()
    with pytest.raises(NotHolder):
        await lease.confirm()
    with pytest.raises(NotHolder):
        lease.check()


async def test_a_holder_that_was_followed_by_one_that_has_ended_ends_too(stage: Stage) -> None:
    """What it remembers is of before the other one's changes."""
    first, second = stage.operator("a"), stage.operator("b")
    await first.attempt()
    await second.attempt()
    stage.seconds += DURATION_S
    await second.attempt()
    await second.release()
    assert await first.attempt() is True
    assert not first.held


async def test_a_lease_that_was_deleted_or_cleared_is_taken_again(stage: Stage) -> None:
    lease = stage.operator("a")
    await lease.attempt()
    stage.kube.remove(LEASE, NAME, namespace=SPACE)
    with pytest.raises(NotHolder):
        await lease.confirm()
    assert await lease.attempt() is False
    assert lease.held
    stage.edit(holderIdentity="")
    assert await lease.attempt() is False
    assert (lease.held, stage.holder) == (True, "__a")


async def test_an_outage_stops_the_writes_and_a_renewal_resumes_them(stage: Stage) -> None:
    lease = stage.operator("a")
    await lease.attempt()
    stage.kube.fail("get", LEASE, Unavailable("down"), times=2)
    with pytest.raises(Unavailable):
        await lease.confirm()
    with pytest.raises(Unavailable):
        await lease.attempt()
    assert lease.held
    stage.seconds += DURATION_S
    assert not lease.held
    assert await lease.attempt() is False
    assert lease.held


async def test_only_reads_pass_without_a_permit(stage: Stage) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "y"}}
    lease = stage.operator("a")
    kube = LeasedKube(stage.kube, lease)
    stage.kube.put(manifest)
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: kube.apply(manifest),
        lambda: kube.apply_status({**manifest, "status": {}}),
        lambda: kube.create(manifest),
        lambda: kube.delete(MODEL_SERVICE, "x", namespace="y"),
        lambda: kube.set_finalizers(manifest, []),
    ]
    for write in writes:
        with pytest.raises(NotHolder):
            await write()
    assert stage.kube.writes == []
    assert len(stage.refused) == len(writes)
    assert await kube.list(MODEL_SERVICE) == []


async def test_ray_clusters_are_neither_made_nor_deleted_without_reading_the_lease(stage: Stage) -> None:
    manifest = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "x", "namespace": "y"}}
    lease = stage.operator("a")
    kube = LeasedKube(stage.kube, lease)
    await lease.attempt()
    await kube.apply(manifest)
    stage.edit(holderIdentity="somebody")
    for write in (lambda: kube.apply(manifest), lambda: kube.delete(RAY_CLUSTER, "x", namespace="y")):
        await lease_again(lease)
        with pytest.raises(NotHolder):
            await write()
    assert stage.kube.find(RAY_CLUSTER, "x", namespace="y") is not None


async def lease_again(lease: Lease) -> None:
    """As far as it knows by itself, it holds."""
    lease._valid_until = float("inf")


def test_it_renews_in_time_says_what_it_waits_for_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        kube = FakeKube()

        def operator(process: str) -> Lease:
            begin = datetime(2026, 1, 1, tzinfo=UTC)
            now = lambda: begin + timedelta(seconds=loop.time())  # noqa: E731
            return Lease(kube, SPACE, Identity(process=process), clock=loop.time, now=now)

        first, second = operator("a"), operator("b")
        holding = asyncio.create_task(first.hold())
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(second.hold())
        for _ in range(100):
            await asyncio.sleep(1)
            assert (first.held, second.held) == (True, False)
        kube.fail("apply", LEASE, Unavailable("down"), times=3)
        for _ in range(12):
            await asyncio.sleep(1)
            assert (first.held, second.held) == (True, False)
        holding.cancel()
        begun = loop.time()
        await asyncio.wait_for(second.wait(), timeout=60)
        assert DURATION_S - RENEW_S <= loop.time() - begun <= DURATION_S + 2
        waiting.cancel()

    with caplog.at_level(logging.INFO, logger="modelyard_operator"):
        run_virtually(main())
    said = [record.getMessage() for record in caplog.records]
    assert said.count("waits for the Lease, which __a holds") == 1
    assert said.count("the Lease is held by this operator (__b)") == 1
