"""What somebody else does to what the operator keeps is undone, and an Event says what was; nothing else says so."""

from collections.abc import Callable

import pytest
from tests.unit.reconcile.world import CLUSTER, World

from modelyard_gateway.routes import CONFIG_MAP as ROUTES_NAME
from modelyard_gateway.routes import CONFIG_MAP_KEY
from modelyard_operator.kube.client import CONFIG_MAP, RAY_CLUSTER, SERVING_CLUSTER, Manifest
from modelyard_operator.kube.errors import Conflict, Unavailable

Edit = Callable[[World], None]


async def serving(world: World) -> World:
    world.apply_service()
    await world.settle()
    return world


def told(world: World) -> list[str]:
    return [message for _, reason, message in world.published if reason == "DriftUndone"]


def ray(world: World) -> Manifest:
    (only,) = world.kube.all(RAY_CLUSTER)
    return only


def routes(world: World) -> Manifest:
    found = world.kube.find(CONFIG_MAP, ROUTES_NAME, namespace="modelyard")
    assert found is not None
    return found


def edit_the_head(world: World) -> None:
    edited = ray(world)
    edited["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = "8"
    world.kube.put(edited)


def edit_a_group(world: World) -> None:
    edited = ray(world)
    edited["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] = "other:1"
    edited["spec"]["workerGroupSpecs"][0]["maxReplicas"] = 99
    world.kube.put(edited)


def add_a_group(world: World) -> None:
    edited = ray(world)
    edited["spec"]["workerGroupSpecs"].append({"groupName": "extra", "replicas": 1})
    world.kube.put(edited)


def remove_the_groups(world: World) -> None:
    edited = ray(world)
    edited["spec"]["workerGroupSpecs"] = []
    world.kube.put(edited)


def relabel(world: World) -> None:
    edited = ray(world)
    edited["metadata"]["labels"]["modelyard.dev/managed"] = "false"
    world.kube.put(edited)


def hide(world: World) -> None:
    edited = ray(world)
    del edited["metadata"]["labels"]["modelyard.dev/serving-cluster"]
    edited["spec"]["workerGroupSpecs"][0]["replicas"] = 1
    world.kube.put(edited)


def delete_the_ray_cluster(world: World) -> None:
    world.kube.remove(RAY_CLUSTER, ray(world)["metadata"]["name"], namespace=CLUSTER.namespace)


def edit_the_routes(world: World) -> None:
    edited = routes(world)
    world.kube.put({**edited, "data": {CONFIG_MAP_KEY: "{}"}})


def delete_the_routes(world: World) -> None:
    world.kube.remove(CONFIG_MAP, ROUTES_NAME, namespace="modelyard")


def resize_in_ray(world: World) -> None:
    (application,) = world.serve.configs.values()
    application["deployments"][0]["num_replicas"] = 5


def add_to_ray(world: World) -> None:
    deployment = {"name": "model", "num_replicas": 1, "ray_actor_options": {"resources": {"group-x": 1}}}
    foreign = {"name": "playground", "deployments": [{**deployment, "user_config": {"model": {"uri": "x"}}}]}
    world.serve.states["playground"] = "RUNNING"
    world.serve.configs["playground"] = foreign


def remove_from_ray(world: World) -> None:
    for name in world.serve.states:
        world.serve.states[name] = "DELETING"


EDITS: dict[Edit, str] = {
    edit_the_head: "was changed by somebody else: put back spec.headGroupSpec.rayStartParams.num-cpus",
    edit_a_group: "spec.workerGroupSpecs[0].",
    add_a_group: "was changed by somebody else: put back spec.workerGroupSpecs",
    remove_the_groups: "was changed by somebody else: put back spec.workerGroupSpecs",
    relabel: "put back metadata.labels.modelyard.dev/managed",
    hide: "put back metadata.labels.modelyard.dev/serving-cluster",
    delete_the_ray_cluster: "was deleted by somebody else: made again",
    edit_the_routes: f"ConfigMap modelyard/{ROUTES_NAME} was changed by somebody else: put back data.{CONFIG_MAP_KEY}",
    delete_the_routes: f"ConfigMap modelyard/{ROUTES_NAME} was deleted by somebody else: made again",
    resize_in_ray: "was written by somebody else, who changed team-a.smollm2.",
    add_to_ray: "was written by somebody else, who added playground: put back",
    remove_from_ray: "was written by somebody else, who removed team-a.smollm2.",
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: str(edit.__name__))
async def test_it_is_put_back_and_told_once(world: World, edit: Edit) -> None:
    before = (await serving(world)).state()
    assert told(world) == []
    edit(world)
    await world.settle()
    assert world.state() == before
    assert ray(world)["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (message,) = told(world)
    assert EDITS[edit] in message


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: str(edit.__name__))
async def test_an_operator_that_has_just_started_puts_it_back_without_a_word(world: World, edit: Edit) -> None:
    before = (await serving(world)).state()
    edit(world)
    world.start_operator()
    await world.settle()
    assert world.state() == before
    assert told(world) == []


async def test_the_operators_own_changes_are_no_drift(world: World) -> None:
    await serving(world)
    world.apply_service("pvc://models/other", resources={"memory": "4Gi"}, replicas=2)
    await world.settle()
    world.apply_service(suspend=True)
    await world.settle()
    cluster = world.kube.find(SERVING_CLUSTER, CLUSTER.name, namespace=CLUSTER.namespace)
    assert cluster is not None
    world.kube.put({**cluster, "spec": {**cluster["spec"], "head": {"memory": "8Gi"}}})
    world.apply_service()
    await world.settle()
    assert told(world) == []


async def test_what_rays_autoscaler_writes_is_no_drift(world: World) -> None:
    await serving(world)
    scaled = ray(world)
    scaled["spec"]["workerGroupSpecs"][0]["replicas"] = 2
    world.kube.put(scaled)
    world.apply_service("pvc://models/other", resources={"memory": "4Gi"})
    await world.settle()
    assert told(world) == []


async def test_an_edit_that_a_write_meets_by_chance_is_told_when_it_is_undone(world: World) -> None:
    await serving(world)
    edit_the_head(world)
    world.kube.fail("apply", RAY_CLUSTER, Conflict("modified"))
    with pytest.raises(Conflict):
        await world.settle()
    await world.settle()
    assert len(told(world)) == 1


async def test_a_write_that_may_or_may_not_have_happened_is_not_taken_for_somebody_elses(world: World) -> None:
    await serving(world)
    world.kube.dies_after = len(world.kube.writes) + 1
    world.apply_service("pvc://models/other", resources={"memory": "4Gi"})
    for _ in range(40):
        try:
            await world.turn()
        except Unavailable:
            world.kube.dies_after = len(world.kube.writes) + 1
    world.kube.dies_after = None
    await world.settle()
    assert told(world) == []
