"""The writer of Serve configs: one application that is refused, or cannot be read, is nobody else's business."""

from typing import Any

import pytest
from tests.unit.reconcile.world import SERVICE, World

from modelyard_operator.kube.client import MODEL_SERVICE, POD
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.serve_memory import RETRY_REFUSED

BAD = "pvc://models/refused"


def uri(application: dict[str, Any]) -> str:
    return str(application["deployments"][0]["user_config"]["model"]["uri"])


def replicas(world: World, name: str) -> int:
    (application,) = [each for each in world.applications if each.split(".")[1] == name]
    return world.serve.target(application)


async def turns(world: World, count: int) -> None:
    for _ in range(count):
        await world.turn()


async def sharing(world: World, *names: str) -> None:
    for name in names:
        world.apply_service(name=name)
    await world.settle()
    world.serve.refuses_application = lambda application: uri(application) == BAD


def make_unreadable(world: World, name: str) -> None:
    found = world.kube.find(MODEL_SERVICE, name, namespace="team-a")
    assert found is not None
    world.kube.put({**found, "spec": {**found["spec"], "nonsense": True}})


def restart_head(world: World) -> None:
    """Without high availability a head that starts again knows nothing."""
    world.serve.states.clear()
    world.serve.configs.clear()
    (head,) = [pod for pod in world.kube.all(POD) if pod["metadata"]["labels"].get("ray.io/node-type") == "head"]
    head["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = "2026-01-01T01:00:00Z"
    world.kube.put(head)


@pytest.mark.parametrize("others", [1, 2, 5])
async def test_one_refused_application_delays_no_other(world: World, others: int) -> None:
    names = [f"good-{i}" for i in range(others)]
    await sharing(world, "smollm2", *names)
    world.apply_service(BAD, name="bad")
    world.apply_service(BAD)
    for name in names:
        world.apply_service(name=name, replicas=2)
    world.apply_service(name="new")
    await turns(world, 2)
    assert [replicas(world, name) for name in names] == [2] * others
    assert replicas(world, "new") == 1
    await turns(world, 20)
    for name in (*names, "new"):
        conditions = world.conditions(key=Key("team-a", name))
        assert (conditions["Ready"], conditions["Degraded"]) == (("True", "Serving"), ("False", "Healthy"))
    for name, available in (("bad", ("False", "NotServing")), ("smollm2", ("True", "Serving"))):
        conditions = world.conditions(key=Key("team-a", name))
        assert conditions["Available"] == available
        assert conditions["Degraded"] == ("True", "ConfigRefused")
        assert conditions["Progressing"] == ("False", "Failed")
        told = world.message("Degraded", key=Key("team-a", name))
        assert f"ServeDeploySchema: team-a.{name}." in told
    assert all(status == "RUNNING" for status in world.applications.values())
    assert len(world.applications) == others + 2


async def test_what_is_refused_is_asked_for_again_once_a_minute_and_taken_when_it_is_corrected(world: World) -> None:
    await sharing(world, "smollm2", "good")
    world.apply_service(BAD, name="bad")
    await turns(world, 15)
    puts, refusals = len(world.serve.puts), world.serve.refusals
    await turns(world, int(2 * RETRY_REFUSED.total_seconds()))
    assert len(world.serve.puts) == puts
    assert refusals + 2 <= world.serve.refusals <= refusals + 3
    world.apply_service(name="bad")
    await world.settle()
    assert world.conditions(key=Key("team-a", "bad"))["Ready"] == ("True", "Serving")


async def test_a_refused_change_of_what_serves_leaves_it_as_it_was_accepted(world: World) -> None:
    await sharing(world, "smollm2", "good")
    world.serve.refuses_application = lambda each: each["deployments"][0].get("num_replicas") == 13
    world.apply_service(replicas=13)
    world.apply_service(name="good", replicas=2)
    await turns(world, 20)
    assert (replicas(world, "smollm2"), replicas(world, "good")) == (1, 2)
    conditions = world.conditions()
    assert (conditions["Available"], conditions["Degraded"]) == (("True", "Serving"), ("True", "ConfigRefused"))
    world.start_operator()
    await turns(world, 20)
    assert (replicas(world, "smollm2"), replicas(world, "good")) == (1, 2)
    world.apply_service(replicas=3)
    await world.settle()
    assert (replicas(world, "smollm2"), world.conditions()["Ready"]) == (3, ("True", "Serving"))


async def test_a_refused_application_does_not_keep_another_from_going(world: World) -> None:
    await sharing(world, "smollm2", "goes")
    world.apply_service(BAD)
    await turns(world, 3)
    world.delete(MODEL_SERVICE, Key("team-a", "goes"))
    await turns(world, 20)
    assert [name.split(".")[1] for name in world.applications] == ["smollm2"]


async def test_a_refusal_that_is_nobodys_own_is_told_of_the_cluster(world: World) -> None:
    world.apply_service()
    await world.turn()
    world.serve.refuses = "the options of Serve are wrong"
    await turns(world, 5)
    assert world.conditions()["Degraded"] == ("True", "ConfigRefused")
    assert "the options of Serve are wrong" in world.message("Degraded")


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_service_that_cannot_be_read_comes_back_with_a_head_that_forgot_it(
    world: World, restarted: bool
) -> None:
    world.apply_service(name="unreadable", replicas=2)
    await sharing(world, "smollm2")
    make_unreadable(world, "unreadable")
    await turns(world, 3)
    if restarted:
        world.start_operator()
    restart_head(world)
    await turns(world, 5)
    assert replicas(world, "unreadable") == (1 if restarted else 2)
    world.apply_service(name="good")
    await turns(world, 20)
    assert sorted(name.split(".")[1] for name in world.applications) == ["good", "smollm2", "unreadable"]
    world.apply_service(name="unreadable", replicas=2)
    await world.settle()
    assert replicas(world, "unreadable") == 2


async def test_a_head_that_forgot_is_not_given_what_is_retired(world: World) -> None:
    await sharing(world, "smollm2", "goes")
    world.delete(MODEL_SERVICE, Key("team-a", "goes"))
    await world.settle()
    world.apply_service("pvc://models/other")
    await world.settle()
    before = set(world.applications)
    restart_head(world)
    await world.settle()
    assert set(world.applications) == before
    assert world.conditions(key=SERVICE)["Ready"] == ("True", "Serving")
