"""Events are told once, in the background, and harm nobody."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.fakes.kube import FakeKube

from modelyard_operator.kube.client import EVENT
from modelyard_operator.kube.errors import Unavailable
from modelyard_operator.reconcile.events import MAX_WAITING, EventRecorder

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SERVICE = {
    "apiVersion": "modelyard.dev/v1alpha1",
    "kind": "ModelService",
    "metadata": {"name": "x", "namespace": "team", "uid": "u1", "resourceVersion": "7"},
    "spec": {},
}
POOL = {"apiVersion": "modelyard.dev/v1alpha1", "kind": "AcceleratorPool", "metadata": {"name": "p", "uid": "u2"}}


class Recorded:
    """A recorder with a clock that tests set."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.now = BEGIN
        self.recorder = EventRecorder(self.kube, lambda: self.now)


@pytest.fixture
async def recorded() -> Recorded:
    return Recorded()


async def test_an_event_says_what_happened_to_what(recorded: Recorded) -> None:
    recorded.recorder.publish(SERVICE, warning=True, reason="OutOfMemory", message="needs 3Gi")
    await recorded.recorder.write_waiting()
    (event,) = recorded.kube.all(EVENT)
    assert event["metadata"]["namespace"] == "team"
    assert event["metadata"]["name"].startswith("x.")
    assert event["involvedObject"] == {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelService",
        "name": "x",
        "namespace": "team",
        "uid": "u1",
        "resourceVersion": "7",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "OutOfMemory", "needs 3Gi")
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"


async def test_an_event_about_a_cluster_scoped_object_lives_in_default(recorded: Recorded) -> None:
    recorded.recorder.publish(POOL, warning=False, reason="InUse", message="by two services")
    await recorded.recorder.write_waiting()
    (event,) = recorded.kube.all(EVENT)
    assert event["metadata"]["namespace"] == "default"
    assert event["type"] == "Normal"


async def test_the_same_is_told_again_only_after_two_minutes(recorded: Recorded) -> None:
    def tell(message: str = "m") -> None:
        recorded.recorder.publish(SERVICE, warning=False, reason="R", message=message)

    tell()
    recorded.now = BEGIN + timedelta(seconds=119)
    tell()
    tell("another")
    recorded.now = BEGIN + timedelta(seconds=120)
    tell()
    await recorded.recorder.write_waiting()
    assert sorted(event["message"] for event in recorded.kube.all(EVENT)) == ["another", "m", "m"]


async def test_an_api_server_that_is_down_costs_events_and_nothing_else(recorded: Recorded) -> None:
    recorded.kube.fail("create", EVENT, Unavailable("down"))
    recorded.recorder.publish(SERVICE, warning=False, reason="R", message="lost")
    recorded.recorder.publish(SERVICE, warning=False, reason="R", message="kept")
    await recorded.recorder.write_waiting()
    assert [event["message"] for event in recorded.kube.all(EVENT)] == ["kept"]


async def test_more_than_can_wait_are_dropped(recorded: Recorded) -> None:
    for number in range(MAX_WAITING + 5):
        recorded.recorder.publish(SERVICE, warning=False, reason="R", message=str(number))
    await recorded.recorder.write_waiting()
    assert len(recorded.kube.all(EVENT)) == MAX_WAITING


async def test_long_messages_are_cut_to_what_the_api_server_takes(recorded: Recorded) -> None:
    recorded.recorder.publish(SERVICE, warning=False, reason="R", message="x" * 5000)
    await recorded.recorder.write_waiting()
    assert len(recorded.kube.all(EVENT)[0]["message"]) == 1024
