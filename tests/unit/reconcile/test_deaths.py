"""What a pod died of is remembered longer than the pod, for its group alone, and not for ever."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.reconcile.world import World

from modelyard_operator.api.conditions import Reason
from modelyard_operator.kube.client import CONTROLLER_REVISION
from modelyard_operator.reconcile.deaths import PodDeaths

BAD = "pvc://models/too-hungry"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def pod(*, reason: str, last: bool = False) -> dict[str, Any]:
    state = {"terminated": {"reason": reason, "exitCode": 137}}
    return {
        "metadata": {
            "name": "worker-1",
            "namespace": "models",
            "labels": {"ray.io/cluster": "shared-1", "ray.io/group": "cpu-small"},
        },
        "status": {"containerStatuses": [{"lastState": state} if last else {"state": state}]},
    }


def test_a_death_by_memory_is_told_of_its_group() -> None:
    for last in (False, True):
        deaths = PodDeaths()
        deaths.note(pod(reason="OOMKilled", last=last), NOW)
        told = deaths.of("models", "shared-1", NOW)
        assert {group: failure.reason for group, failure in told.items()} == {"cpu-small": Reason.OUT_OF_MEMORY}
        assert "worker-1" in told["cpu-small"].message
        assert deaths.of("models", "shared-2", NOW) == {}
        assert deaths.of("elsewhere", "shared-1", NOW) == {}


def test_an_ordinary_end_is_no_death() -> None:
    deaths = PodDeaths()
    deaths.note(pod(reason="Completed"), NOW)
    assert deaths.of("models", "shared-1", NOW) == {}


def test_it_is_forgotten_in_time() -> None:
    deaths = PodDeaths()
    deaths.note(pod(reason="OOMKilled"), NOW)
    assert deaths.of("models", "shared-1", NOW + timedelta(minutes=9))
    assert deaths.of("models", "shared-1", NOW + timedelta(minutes=11)) == {}


async def test_the_service_tells_what_killed_its_worker(world: World) -> None:
    """Serve knows only that the node died, and KubeRay has taken the pod away: the watch event told why."""
    world.broken = {BAD: "The actor died because its node has died."}
    world.apply_service(BAD)
    for _ in range(4):
        await world.turn()
    assert world.conditions()["Degraded"] == ("True", "DeployFailed")
    (revision,) = world.kube.all(CONTROLLER_REVISION)
    killed = pod(reason="OOMKilled")
    killed["metadata"]["labels"] = {
        "ray.io/cluster": revision["data"]["rayCluster"],
        "ray.io/group": revision["data"]["workerGroup"]["groupName"],
    }
    world.app.deaths.note(killed, world.now)
    await world.turn()
    await world.turn()
    assert world.conditions()["Degraded"] == ("True", "OutOfMemory")
