"""One loop for each object: when it looks again, how it fails, how it ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from tests.unit.fakes.kube import FakeKube
from tests.unit.fakes.virtual_time import run_virtually

from modelyard_operator.kube.client import ACCELERATOR_POOL, MODEL_SERVICE, Manifest
from modelyard_operator.kube.errors import Conflict, Forbidden, Unavailable
from modelyard_operator.ray.client import ServeUnreachable
from modelyard_operator.reconcile import loop
from modelyard_operator.reconcile.finalizer import FINALIZER
from modelyard_operator.reconcile.heartbeat import Heartbeat
from modelyard_operator.reconcile.loop import CONFLICTS_AT_ONCE, MAX_BACKOFF_S, Controlled, Loops
from modelyard_operator.reconcile.metrics import Metrics
from modelyard_operator.reconcile.result import Key, Result
from modelyard_operator.reconcile.wakeups import Wakeups

KEY = Key("team", "x")
RESYNC_S = 300.0
Step = Result | BaseException | Callable[[], Awaitable[Result]]


def manifest(**metadata: object) -> Manifest:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": "x", "namespace": "team", **metadata},
        "spec": {},
    }


@dataclass
class Scripted:
    """A reconcile function that plays `steps`, then rests, and remembers when it was called."""

    steps: list[Step] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    metrics: Metrics = field(default_factory=lambda: Metrics("test"))
    wakeups: Wakeups = field(default_factory=Wakeups)
    kube: FakeKube = field(default_factory=FakeKube)
    permitted_at: float = 0.0

    async def reconcile(self, key: Key) -> Result:
        assert key == KEY
        self.looks.append(asyncio.get_running_loop().time())
        step = self.steps.pop(0) if self.steps else Result()
        if isinstance(step, BaseException):
            raise step
        return step if isinstance(step, Result) else await step()

    async def permitted(self) -> None:
        await asyncio.sleep(self.permitted_at - asyncio.get_running_loop().time())

    def loops(self, jitter: float = 0.0) -> Loops:
        self.heartbeat = Heartbeat(lambda: asyncio.get_running_loop().time(), 120)
        return Loops(
            kube=self.kube,
            kinds={
                MODEL_SERVICE: Controlled(self.reconcile, finalizer=True),
                ACCELERATOR_POOL: Controlled(self.reconcile, finalizer=False),
            },
            wakeups=self.wakeups,
            heartbeat=self.heartbeat,
            metrics=self.metrics,
            resync_s=RESYNC_S,
            permitted=self.permitted,
            jitter=lambda: jitter,
        )

    def run(
        self, seconds: float, *, then: Callable[[Loops], Awaitable[None]] | None = None, jitter: float = 0.0
    ) -> None:
        """Let the loop of KEY run for so long, do `then`, and stop it."""

        async def main() -> None:
            loops = self.loops(jitter)
            loops.seen(MODEL_SERVICE, KEY)
            await asyncio.sleep(seconds)
            if then is not None:
                await then(loops)
            await loops.stop()
            assert loops.count(MODEL_SERVICE) == 0

        run_virtually(main())

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def scripted() -> Scripted:
    made = Scripted()
    made.kube.put(manifest())
    return made


def test_at_rest_it_looks_again_at_each_resync(scripted: Scripted) -> None:
    scripted.run(2.5 * RESYNC_S)
    assert scripted.looks == [0, RESYNC_S, 2 * RESYNC_S]


def test_it_writes_and_looks_at_nothing_until_it_may_and_is_not_stuck_meanwhile(scripted: Scripted) -> None:
    scripted.permitted_at = 1000.0

    async def waits(loops: Loops) -> None:
        assert scripted.kube.requests == []
        assert scripted.heartbeat.stuck() == []
        await asyncio.sleep(200)

    scripted.run(900, then=waits)
    assert scripted.looks == [1000]


def test_resyncs_are_spread_by_jitter(scripted: Scripted) -> None:
    scripted.run(1.5 * RESYNC_S, jitter=1.0)
    assert scripted.looks == [0, pytest.approx(1.2 * RESYNC_S)]


def test_a_requeue_comes_before_the_resync(scripted: Scripted) -> None:
    scripted.steps = [Result(requeue_after_s=5), Result(requeue_after_s=2 * RESYNC_S)]
    scripted.run(5 + 1.5 * RESYNC_S)
    assert scripted.looks == [0, 5, 5 + RESYNC_S]


def test_a_wake_up_makes_it_look_at_once(scripted: Scripted) -> None:
    async def wake(loops: Loops) -> None:
        loops.seen(MODEL_SERVICE, KEY)
        await asyncio.sleep(1)

    scripted.run(10, then=wake)
    assert scripted.looks == [0, 10]


def test_a_wake_up_during_a_look_makes_another(scripted: Scripted) -> None:
    async def disturbed() -> Result:
        scripted.wakeups.wake(MODEL_SERVICE, KEY)
        await asyncio.sleep(3)
        return Result()

    scripted.steps = [disturbed]
    scripted.run(10)
    assert scripted.looks == [0, 3]


def test_conflicts_are_tried_again_at_once_but_not_for_ever(scripted: Scripted) -> None:
    scripted.steps = [Conflict("moved on")] * (CONFLICTS_AT_ONCE + 1)
    scripted.run(10)
    assert scripted.looks == [0] * (CONFLICTS_AT_ONCE + 1) + [1]


@pytest.mark.parametrize("error", [Unavailable("down"), Forbidden("no"), ServeUnreachable("gone"), ValueError("bug")])
def test_errors_back_off_up_to_a_limit_and_success_resets_them(scripted: Scripted, error: Exception) -> None:
    scripted.steps = [*[error] * 8, Result(requeue_after_s=1), error]
    scripted.run(1 + 2 + 4 + 8 + 16 + 32 + 2 * MAX_BACKOFF_S + 4)
    waits = [b - a for a, b in zip(scripted.looks, scripted.looks[1:], strict=False)]
    assert waits == [1, 2, 4, 8, 16, 32, MAX_BACKOFF_S, MAX_BACKOFF_S, 1, 1]


def test_a_wake_up_shortens_a_backoff_but_a_storm_of_them_does_not_spin(scripted: Scripted) -> None:
    scripted.steps = [Unavailable("down")] * 100

    async def storm(_: Loops) -> None:
        for _tick in range(100):
            scripted.wakeups.wake(MODEL_SERVICE, KEY)
            await asyncio.sleep(0.1)

    scripted.run(40, then=storm)
    during = [at for at in scripted.looks if at > 40]
    assert 9 <= len(during) <= 10


def test_a_mistake_of_ours_is_logged_with_its_traceback(scripted: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    scripted.steps = [ValueError("bug")]
    scripted.run(0.5)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.__dict__["kind"] == "ModelService"
    assert record.__dict__["object"] == "team/x"


def test_outcomes_and_loops_are_counted(scripted: Scripted) -> None:
    scripted.steps = [Unavailable("down"), Conflict("moved"), ValueError("bug")]

    async def count(loops: Loops) -> None:
        assert loops.count(MODEL_SERVICE) == 1
        assert scripted.sample("modelyard_loops", kind="ModelService") == 1

    scripted.run(4, then=count)
    for outcome in ("Unavailable", "conflict", "failed", "ok"):
        assert scripted.sample("modelyard_reconcile_seconds_count", kind="ModelService", outcome=outcome) == 1
    assert scripted.sample("modelyard_loops", kind="ModelService") == 0


def test_the_finalizer_is_there_before_the_first_look(scripted: Scripted) -> None:
    found: list[list[str]] = []

    async def look() -> Result:
        held = scripted.kube.find(MODEL_SERVICE, "x", namespace="team")
        assert held is not None
        found.append(held["metadata"]["finalizers"])
        return Result()

    scripted.steps = [look]
    scripted.run(1)
    assert found == [[FINALIZER]]


def test_without_the_finalizer_nothing_is_looked_at(scripted: Scripted) -> None:
    scripted.kube.fail("set_finalizers", MODEL_SERVICE, Unavailable("down"), times=2)
    scripted.run(10)
    assert scripted.looks == [3]


def test_a_deletion_goes_on_until_done_and_then_the_object_goes(scripted: Scripted) -> None:
    async def delete(loops: Loops) -> None:
        assert await scripted.kube.delete(MODEL_SERVICE, "x", namespace="team")
        scripted.steps = [Result(requeue_after_s=5), Unavailable("down"), Result(done=True)]
        loops.seen(MODEL_SERVICE, KEY)
        await asyncio.sleep(4)
        assert scripted.kube.find(MODEL_SERVICE, "x", namespace="team") is not None
        await asyncio.sleep(10)
        assert scripted.kube.find(MODEL_SERVICE, "x", namespace="team") is None
        assert loops.count(MODEL_SERVICE) == 0

    scripted.run(10, then=delete)
    assert scripted.looks == [0, 10, 15, 16]


def test_an_operator_that_starts_in_a_deletion_finishes_it(scripted: Scripted) -> None:
    scripted.kube.put(manifest(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=[FINALIZER, "other/one"]))
    scripted.steps = [Result(requeue_after_s=5), Result(done=True)]
    scripted.run(10)
    left = scripted.kube.find(MODEL_SERVICE, "x", namespace="team")
    assert left is not None
    assert left["metadata"]["finalizers"] == ["other/one"]
    assert scripted.looks == [0, 5]


def test_a_release_that_fails_is_tried_again(scripted: Scripted) -> None:
    scripted.kube.put(manifest(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=[FINALIZER]))
    scripted.kube.fail("set_finalizers", MODEL_SERVICE, Unavailable("down"))
    scripted.steps = [Result(done=True)] * 2
    scripted.run(10)
    assert scripted.kube.find(MODEL_SERVICE, "x", namespace="team") is None
    assert scripted.looks == [0, 1]


def test_an_object_that_takes_the_place_of_a_deleted_one_is_held_too(scripted: Scripted) -> None:
    async def replaced() -> Result:
        scripted.kube.remove(MODEL_SERVICE, "x", namespace="team")
        scripted.kube.put(manifest())
        scripted.wakeups.wake(MODEL_SERVICE, KEY)
        return Result(done=True)

    scripted.steps = [replaced]
    scripted.run(10)
    new = scripted.kube.find(MODEL_SERVICE, "x", namespace="team")
    assert new is not None
    assert new["metadata"]["finalizers"] == [FINALIZER]


def test_an_object_that_comes_after_its_loop_has_ended_gets_a_new_one(scripted: Scripted) -> None:
    scripted.steps = [Result(done=True)]

    async def again(loops: Loops) -> None:
        assert loops.count(MODEL_SERVICE) == 0
        loops.seen(MODEL_SERVICE, KEY)
        await asyncio.sleep(1)
        assert loops.count(MODEL_SERVICE) == 1

    scripted.run(10, then=again)
    assert scripted.looks == [0, 10]


def test_a_kind_without_finalizer_gets_none(scripted: Scripted) -> None:
    async def main() -> None:
        loops = scripted.loops()
        loops.seen(ACCELERATOR_POOL, KEY)
        await asyncio.sleep(1)
        await loops.stop()

    run_virtually(main())
    assert scripted.looks == [0]
    assert scripted.kube.requests == []


def test_stopping_cancels_a_look_that_is_under_way(scripted: Scripted) -> None:
    cancelled: list[float] = []

    async def endless() -> Result:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            cancelled.append(asyncio.get_running_loop().time())
            raise
        return Result()

    scripted.steps = [endless]
    scripted.run(10)
    assert cancelled == [10]


def test_a_look_that_hangs_is_stuck(scripted: Scripted) -> None:
    async def endless() -> Result:
        await asyncio.sleep(1e6)
        return Result()

    scripted.steps = [endless]

    async def ask(_: Loops) -> None:
        assert scripted.heartbeat.stuck() == []
        await asyncio.sleep(21)
        assert scripted.heartbeat.stuck() == ["ModelService team/x has been at work for 121 s"]

    scripted.run(100, then=ask)


def test_few_are_looked_at_for_the_first_time_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BEGINNING", 2)
    looks: dict[str, list[float]] = {name: [] for name in "abcde"}

    async def look(key: Key) -> Result:
        looks[key.name].append(asyncio.get_running_loop().time())
        await asyncio.sleep(10)
        if key.name == "b" and len(looks["b"]) == 1:
            raise Unavailable("the API server is busy")
        return Result(requeue_after_s=5)

    async def main() -> None:
        loops = Scripted().loops()
        loops.kinds = {ACCELERATOR_POOL: Controlled(look, finalizer=False)}
        for name in looks:
            loops.seen(ACCELERATOR_POOL, Key("", name))
        await asyncio.sleep(60)
        await loops.stop()

    run_virtually(main())
    assert [times[0] for times in looks.values()] == [0, 0, 10, 10, 20]
    assert looks["a"][1] == 15, "whoever has begun waits for nobody"
    assert looks["b"][1] == 20, "one that failed begins once more"
