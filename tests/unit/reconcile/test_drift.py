"""What somebody else does to what the operator keeps is undone, and an Event says what was; nothing else says so."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.unit.reconcile.world import CLUSTER, SERVICE, World

from modelyard_gateway.routes import CONFIG_MAP as ROUTES_NAME
from modelyard_gateway.routes import CONFIG_MAP_KEY
from modelyard_operator.kube.client import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    MODEL_SERVICE,
    RAY_CLUSTER,
    SERVING_CLUSTER,
    Manifest,
)
from modelyard_operator.kube.errors import Conflict, Unavailable
from modelyard_operator.reconcile.routes import ROUTES

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


def record(world: World) -> Manifest:
    (only,) = world.kube.all(CONTROLLER_REVISION)
    return only


def delete_the_record(world: World) -> None:
    world.kube.remove(CONTROLLER_REVISION, record(world)["metadata"]["name"], namespace="team-a")


def hide_the_record(world: World) -> None:
    edited = record(world)
    edited["metadata"]["labels"] = {}
    world.kube.put(edited)


def give_the_record_to_another_cluster(world: World) -> None:
    edited = record(world)
    edited["metadata"]["labels"]["modelyard.dev/serving-cluster"] = "other"
    world.kube.put(edited)


def retire_the_record(world: World) -> None:
    edited = record(world)
    edited["metadata"]["annotations"]["modelyard.dev/phase"] = "Retired"
    world.kube.put(edited)


def spoil_the_record(world: World) -> None:
    edited = record(world)
    edited["metadata"]["annotations"] = {"modelyard.dev/phase": "Nonsense"}
    world.kube.put(edited)


def make_the_record_again_with_other_data(world: World) -> None:
    edited = record(world)
    delete_the_record(world)
    world.kube.put({**edited, "data": {**edited["data"], "rayCluster": "elsewhere"}})


RECORD_EDITS: dict[Edit, str] = {
    delete_the_record: "was deleted by somebody else: made again",
    hide_the_record: "was changed by somebody else: put back metadata.labels.",
    give_the_record_to_another_cluster: "put back metadata.labels.modelyard.dev/serving-cluster",
    retire_the_record: "put back metadata.annotations.modelyard.dev/phase",
    spoil_the_record: "put back metadata.annotations.modelyard.dev/phase",
    make_the_record_again_with_other_data: "was deleted by somebody else: made again",
}
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


@pytest.mark.parametrize("edit", RECORD_EDITS, ids=lambda edit: str(edit.__name__))
async def test_what_somebody_does_to_a_revision_takes_no_model_down(world: World, edit: Edit) -> None:
    before = (await serving(world)).state()
    document, puts = world.document, len(world.serve.puts)
    edit(world)
    # The other loops look first, and find the record as somebody left it.
    await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
    await world.routes.reconcile(ROUTES[1])
    assert world.document == document
    for _ in range(20):
        with suppress(Conflict):
            await world.turn()
        assert world.document == document
        assert set(world.applications.values()) == {"RUNNING"}
    assert world.state() == before
    assert len(world.serve.puts) == puts
    (message,) = told(world)
    assert message.startswith("ControllerRevision team-a/smollm2-")
    assert RECORD_EDITS[edit] in message


@pytest.mark.parametrize("edit", [delete_the_record, hide_the_record], ids=lambda edit: str(edit.__name__))
async def test_a_record_that_was_lost_before_the_operator_started_takes_no_model_down(world: World, edit: Edit) -> None:
    await serving(world)
    document = world.document
    edit(world)
    world.start_operator()
    await world.routes.reconcile(ROUTES[1])
    for _ in range(30):
        await world.turn()
        assert world.document == document
        assert set(world.applications.values()) == {"RUNNING"}
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert told(world) == []


async def test_revisions_of_a_service_made_again_under_its_name_are_its_own(world: World) -> None:
    await serving(world)
    world.delete(MODEL_SERVICE, SERVICE)
    await world.settle()
    world.apply_service("pvc://models/other")
    await world.settle()
    assert len(world.revisions) == 1
    assert told(world) == []


async def test_a_group_that_nobody_wants_any_more_is_put_back_too_while_it_has_pods(world: World) -> None:
    await serving(world)
    (first,) = ray(world)["spec"]["workerGroupSpecs"]
    (application,) = world.applications
    world.serve.slow.add(application)
    world.apply_service(resources={"memory": "4Gi"})
    for _ in range(20):
        await world.turn()
    assert ray(world)["spec"]["workerGroupSpecs"][0]["groupName"] == first["groupName"]
    edited = ray(world)
    edited["spec"]["workerGroupSpecs"][0] |= {"maxReplicas": 77, "replicas": 2}
    world.kube.put(edited)
    await world.turn()
    left = ray(world)["spec"]["workerGroupSpecs"][0]
    assert (left["groupName"], left["maxReplicas"], left["replicas"]) == (first["groupName"], first["maxReplicas"], 2)
    assert len(told(world)) == 1


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


async def test_an_empty_list_that_a_controller_leaves_out_is_put_back_without_a_word(world: World) -> None:
    """KubeRay's own finalizer is written with the whole object, and Go leaves empty lists out."""
    world.apply_service(suspend=True)
    await world.settle()
    (standing,) = world.kube.all(RAY_CLUSTER)
    assert standing["spec"]["workerGroupSpecs"] == []
    spec = {name: value for name, value in standing["spec"].items() if name != "workerGroupSpecs"}
    world.kube.put({**standing, "spec": spec})
    await world.turn()
    # Ray's autoscaler ends without it, and KubeRay starts no other one.
    assert ray(world)["spec"]["workerGroupSpecs"] == []
    assert told(world) == []


async def test_groups_that_somebody_takes_away_are_told(world: World) -> None:
    await serving(world)
    world.kube.put({**ray(world), "spec": {**ray(world)["spec"], "workerGroupSpecs": []}})
    await world.settle()
    assert len(told(world)) == 1


async def test_a_write_that_may_have_been_done_is_blamed_on_nobody(world: World) -> None:
    """The API server's answer was lost: what stands then is the operator's own, and another change follows."""

    def wanted(value: str) -> Manifest:
        metadata = {"name": "kept", "namespace": "modelyard"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}

    standing = await world.app.upkeep.keep(wanted("first"), None)
    world.kube.dies_after = len(world.kube.writes) + 1
    with pytest.raises(Unavailable):
        await world.app.upkeep.keep(wanted("second"), standing)
    live = world.kube.find(CONFIG_MAP, "kept", namespace="modelyard")
    assert live is not None
    assert live["data"] == {"value": "second"}
    await world.app.upkeep.keep(wanted("third"), live)
    assert told(world) == []
