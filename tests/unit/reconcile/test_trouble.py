"""What goes wrong is told in the service's own status, harms nobody else, and heals when its cause is gone."""

from itertools import pairwise

import pytest
from tests.unit.desired.samples import cluster_manifest, pool_manifest
from tests.unit.reconcile.world import CLUSTER, GATEWAYS, KUBERAY_CRD, SERVICE, World

from modelyard_operator.kube.client import (
    ACCELERATOR_POOL,
    CONTROLLER_REVISION,
    CRD,
    MODEL_SERVICE,
    NAMESPACE,
    RAY_CLUSTER,
    SERVING_CLUSTER,
    Manifest,
)
from modelyard_operator.kube.errors import Conflict, Unavailable
from modelyard_operator.reconcile.app import Routed
from modelyard_operator.reconcile.result import Key
from modelyard_serving.contract import FailureReason, failure_text

BAD = "pvc://models/bad"
NOT_FOUND = "RayTaskError: " + failure_text(FailureReason.MODEL_NOT_FOUND, "There is no folder /models/models/bad.")


async def turns(world: World, count: int) -> None:
    for _ in range(count):
        await world.turn()


async def test_a_bad_edit_leaves_the_old_revision_serving_and_a_fix_needs_no_help(world: World) -> None:
    world.apply_service()
    await world.settle()
    (good,) = world.applications
    world.broken = {BAD: NOT_FOUND}
    world.apply_service(BAD)
    await turns(world, 12)
    conditions = world.conditions()
    assert conditions["Available"] == ("True", "Serving")
    assert conditions["Degraded"] == ("True", "ModelNotFound")
    assert conditions["Progressing"] == ("False", "Failed")
    assert conditions["Ready"] == ("False", "ModelNotFound")
    assert "There is no folder /models/models/bad." in world.message("Degraded")
    assert world.applications[good] == "RUNNING"
    world.apply_service("pvc://models/fixed")
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert len(world.applications) == 1


async def test_a_failing_start_is_tried_again_later_and_later(world: World) -> None:
    world.broken = {BAD: NOT_FOUND}
    world.apply_service(BAD)
    tries = []
    for second in range(200):
        before = len(world.serve.puts) if world.serves else 0
        await world.turn()
        if world.serves and any(world.serve.puts[before:]):
            tries.append(second)
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert len(waits) >= 3
    assert waits == sorted(waits)
    assert waits[0] >= 20
    assert waits[-1] >= 2 * waits[0]


async def test_a_model_that_appears_later_is_served_without_help(world: World) -> None:
    world.broken = {BAD: NOT_FOUND}
    world.apply_service(BAD)
    await turns(world, 12)
    world.broken = {}
    await turns(world, 40)
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_revision_that_cannot_answer_gets_no_requests(world: World) -> None:
    world.apply_service()
    await world.settle()
    (old,) = world.document.routes
    (head,) = {address for address, _ in world.proofs if address.startswith("10.2.")}
    world.proof_failures = {head: "500: NaN in the logits"}
    world.apply_service("pvc://models/other")
    await turns(world, 12)
    assert world.document.routes == (old,)
    assert world.conditions()["Degraded"] == ("True", "ProofFailed")
    assert "NaN in the logits" in world.message("Degraded")
    world.proof_failures = {}
    await world.settle()
    assert world.document.routes != (old,)
    assert world.conditions()["Degraded"] == ("False", "Healthy")


async def test_a_proof_asks_the_head_and_every_node_with_a_replica(world: World) -> None:
    world.apply_service(replicas=2)
    await world.settle()
    asked = {address for address, _ in world.proofs}
    (application,) = world.applications
    assert asked == {f"{a}:8000" for a in world.serve.addresses(application)} | {
        a for a in asked if a.startswith("10.2.")
    }
    assert len(asked) == 3


async def test_a_worker_without_a_replica_is_not_asked_for_a_proof(world: World) -> None:
    """Ray's autoscaler leaves workers idle for a minute before it takes them away."""
    world.idle_workers = ["10.3.0.1"]
    world.apply_service()
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_service_waits_for_kuberay_and_goes_on_by_itself(world: World) -> None:
    world.kube.remove(CRD, "rayclusters.ray.io")
    world.apply_service()
    await turns(world, 5)
    assert world.conditions()["Ready"] == ("False", "KubeRayAbsent")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("False", "KubeRayAbsent")
    assert "Install KubeRay" in world.message("Ready")
    world.kube.put(KUBERAY_CRD)
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("False", "Healthy")


async def test_a_kuberay_that_does_not_run_is_told(world: World) -> None:
    world.kuberay_works = False
    world.apply_service()
    await turns(world, 65)
    assert world.conditions()["Ready"] == ("False", "KubeRayAbsent")
    assert "is its operator running?" in world.message("Ready")
    world.kuberay_works = True
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_head_without_redis_that_is_gone_is_told_and_its_models_come_back(world: World) -> None:
    shared = world.kube.find(SERVING_CLUSTER, CLUSTER.name, namespace=CLUSTER.namespace)
    assert shared is not None
    world.kube.put({**shared, "spec": {**shared["spec"], "highAvailability": False}})
    world.apply_service()
    await world.settle()
    (ray,) = world.kube.all(RAY_CLUSTER)
    name = ray["metadata"]["name"]
    down = {**ray["status"], "conditions": [{"type": "RayClusterProvisioned", "status": "True"}]}
    world.kube.put_status(RAY_CLUSTER, name, down, namespace="models")
    await turns(world, 3)
    assert world.conditions()["Ready"] == ("False", "HeadGone")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("True", "HeadGone")
    world.serve.states.clear()
    world.kube.put_status(RAY_CLUSTER, name, ray["status"], namespace="models")
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert len(world.revisions) == 1


async def test_a_serve_that_cannot_be_asked_does_not_make_what_serves_unavailable(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.serve.reachable = False
    await turns(world, 3)
    assert world.conditions()["Available"] == ("True", "Serving")
    assert world.conditions()["Degraded"] == ("True", "ServeUnreachable")
    assert list(world.revisions.values()) == ["Active"]
    world.serve.reachable = True
    await world.settle()
    assert world.conditions()["Degraded"] == ("False", "Healthy")


async def test_a_config_that_ray_refuses_is_told_and_what_runs_goes_on(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.serve.refuses = "1 validation error for ServeDeploySchema"
    world.apply_service("pvc://models/other")
    await turns(world, 5)
    assert world.conditions()["Degraded"] == ("True", "ConfigRefused")
    assert world.conditions()["Available"] == ("True", "Serving")
    world.serve.refuses = None
    await turns(world, 60)
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_an_unknown_pool_is_refused_and_taken_up_when_it_is_made(world: World) -> None:
    world.apply_service(accelerator={"pool": "fast"})
    await turns(world, 3)
    assert world.conditions()["Accepted"] == ("False", "PoolNotFound")
    assert world.conditions()["Ready"] == ("False", "PoolNotFound")
    assert world.revisions == {}
    world.kube.put(pool_manifest("fast"))
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_spec_that_cannot_be_read_is_told_and_what_runs_goes_on(world: World) -> None:
    """As after an operator's release with a stricter rule."""
    world.apply_service()
    await world.settle()
    before = world.applications, world.document, world.kube.find(RAY_CLUSTER, _only(world), namespace="models")
    service = world.kube.find(MODEL_SERVICE, "smollm2", namespace="team-a")
    assert service is not None
    world.kube.put({**service, "spec": {**service["spec"], "replicas": -1}})
    await turns(world, 5)
    assert world.conditions()["Accepted"] == ("False", "InvalidSpec")
    assert "replicas" in world.message("Accepted")
    assert before == (
        world.applications,
        world.document,
        world.kube.find(RAY_CLUSTER, _only(world), namespace="models"),
    )
    world.apply_service()
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_pool_that_cannot_be_read_stops_only_those_who_use_it(world: World) -> None:
    broken = pool_manifest("broken")
    world.kube.put({**broken, "spec": {"device": "abacus"}})
    world.apply_service()
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")
    world.apply_service(accelerator={"pool": "broken"})
    await turns(world, 3)
    assert world.conditions()["Accepted"] == ("False", "InvalidSpec")
    assert "device" in world.message("Accepted")


async def test_a_revision_that_cannot_be_read_stops_nobody_and_nothing_is_removed_for_it(world: World) -> None:
    world.apply_service()
    world.apply_service("pvc://models/second", name="second")
    await world.settle()
    mine = next(m for m in world.kube.all(CONTROLLER_REVISION) if m["metadata"]["name"].startswith("smollm2-"))
    world.kube.put({**mine, "data": {**mine["data"], "schema": 2}})
    groups = world.kube.all(RAY_CLUSTER)[0]["spec"]["workerGroupSpecs"]
    applications = dict(world.applications)
    await turns(world, 8)
    assert applications.items() <= world.applications.items()
    assert world.kube.all(RAY_CLUSTER)[0]["spec"]["workerGroupSpecs"] == groups
    world.apply_service("pvc://models/second", name="second", replicas=2)
    await turns(world, 8)
    assert world.message("Available", key=Key("team-a", "second")) == "2 of 2 replicas serve."


async def test_an_api_server_that_fails_midway_loses_nothing(world: World) -> None:
    for kind in (CONTROLLER_REVISION, RAY_CLUSTER):
        world.kube.fail("apply", kind, Unavailable("timeout"))
    world.apply_service()
    failures = 0
    for _ in range(30):
        try:
            await world.turn()
        except Unavailable:
            failures += 1
            world.step()
    assert failures == 2
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_serving_cluster_with_services_waits_for_them(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.delete(SERVING_CLUSTER, CLUSTER)
    await turns(world, 3)
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("False", "Deleting")
    assert "1 ModelServices are bound to it" in world.message("Progressing", SERVING_CLUSTER, CLUSTER)
    assert world.conditions()["Available"] == ("True", "Serving")
    world.delete(MODEL_SERVICE, SERVICE)
    await turns(world, 8)
    assert world.kube.all(SERVING_CLUSTER) == []
    assert world.kube.all(RAY_CLUSTER) == []


async def test_a_namespace_that_goes_takes_its_cluster_along_although_services_are_bound(world: World) -> None:
    world.apply_service()
    await world.settle()
    namespace = world.kube.find(NAMESPACE, "models")
    assert namespace is not None
    namespace["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.kube.put(namespace)
    world.delete(SERVING_CLUSTER, CLUSTER)
    await turns(world, 3)
    assert world.kube.all(SERVING_CLUSTER) == []
    assert world.conditions()["Accepted"] == ("False", "ServingClusterNotFound")


async def test_a_service_that_moves_to_another_cluster_drains_on_the_first(world: World) -> None:
    world.apply_service()
    await world.settle()
    (old,) = world.applications
    (serve,) = world.serves.values()
    serve.slow.add(old)
    manifest = cluster_manifest(image="serving:other")
    world.kube.put({**manifest, "metadata": {**manifest["metadata"], "name": "second", "uid": "uid-second"}})
    world.apply_service(servingCluster={"name": "second", "namespace": "models"})
    await turns(world, 20)
    assert world.conditions()["Available"] == ("True", "Serving")
    assert sorted(world.revisions.values()) == ["Active", "Retired"]
    assert serve.states == {old: "DELETING"}
    serve.slow.clear()
    await world.settle()
    assert list(world.revisions.values()) == ["Active"]
    assert serve.states == {}


async def test_another_head_is_another_ray_cluster_and_the_old_one_goes_when_it_is_empty(world: World) -> None:
    world.apply_service()
    await world.settle()
    before = _only(world)
    shared = world.kube.find(SERVING_CLUSTER, "shared", namespace="models")
    assert shared is not None
    world.kube.put({**shared, "spec": {**shared["spec"], "head": {"memory": "8Gi"}}})
    routed = 0
    for _ in range(30):
        await world.turn()
        routed += len(world.document.routes)
    assert routed == 30
    assert _only(world) != before
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_new_release_moves_nothing_that_runs(world: World) -> None:
    world.apply_service()
    await world.settle()
    writes, puts = len(world.kube.writes), len(world.serve.puts)
    world.settings = world.settings.model_copy(update={"serving_image": "serving:2"})
    world.start_operator()
    await turns(world, 6)
    assert world.kube.writes[writes:] == []
    assert world.serve.puts[puts:] == []


async def test_what_ray_scaled_is_not_scaled_back(world: World) -> None:
    world.apply_service()
    await world.settle()
    (ray,) = world.kube.all(RAY_CLUSTER)
    (group,) = ray["spec"]["workerGroupSpecs"]
    scaled = {"replicas": 4, "scaleStrategy": {"workersToDelete": ["w-1"]}}
    group |= scaled
    world.kube.put(ray)
    world.deaf = {*GATEWAYS}
    world.apply_service(resources={"memory": "4Gi"})
    await turns(world, 12)
    (ray,) = world.kube.all(RAY_CLUSTER)
    first, second = ray["spec"]["workerGroupSpecs"]
    assert first == group
    assert second["replicas"] == 0


async def test_a_foreign_application_is_cleared_away_and_no_write_is_repeated(world: World) -> None:
    world.apply_service()
    await world.settle()
    deployment = {"name": "model", "num_replicas": 1, "ray_actor_options": {"resources": {"group-x": 1}}}
    foreign = {"name": "playground", "deployments": [{**deployment, "user_config": {"model": {"uri": "x"}}}]}
    world.serve.states["playground"] = "RUNNING"
    world.serve.configs["playground"] = foreign
    await world.settle()
    assert "playground" not in world.applications
    assert len(world.applications) == 1


async def test_a_pool_tells_its_nodes_and_services(world: World) -> None:
    world.apply_service()
    for name in ("n1", "n2"):
        world.kube.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {}}})
    status = (await world.look_at_pool())["status"]
    assert (status["nodes"], status["services"]) == (2, 1)
    writes = len(world.kube.writes)
    await world.look_at_pool()
    assert len(world.kube.writes) == writes
    assert world.kube.find(ACCELERATOR_POOL, "cpu") is not None


def _only(world: World) -> str:
    (ray,) = world.kube.all(RAY_CLUSTER)
    return str(ray["metadata"]["name"])


async def test_a_write_never_undoes_what_ray_scaled_in_between(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.apply_service(resources={"memory": "4Gi"})
    await world.reconcile(MODEL_SERVICE, SERVICE, world.service_loop.reconcile)
    (ray,) = world.kube.all(RAY_CLUSTER)
    ray["spec"]["workerGroupSpecs"][0]["replicas"] = 5
    world.kube.watch = lambda event, manifest: None  # No event of it came yet.
    world.kube.put(ray)
    with pytest.raises(Conflict):
        await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
    assert _groups(world)[0]["replicas"] == 5
    world.kube.watch = world.watched
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_ray_cluster_of_a_revision_that_cannot_be_read_stays(world: World) -> None:
    world.apply_service()
    await world.settle()
    before = _only(world)
    (mine,) = world.kube.all(CONTROLLER_REVISION)
    world.kube.put({**mine, "data": {**mine["data"], "schema": 2}})
    shared = world.kube.find(SERVING_CLUSTER, "shared", namespace="models")
    assert shared is not None
    world.kube.put({**shared, "spec": {**shared["spec"], "head": {"memory": "8Gi"}}})
    await turns(world, 12)
    assert before in [m["metadata"]["name"] for m in world.kube.all(RAY_CLUSTER)]


async def test_a_group_at_zero_of_a_revision_that_cannot_be_read_stays(world: World) -> None:
    world.apply_service(autoscaling={"minReplicas": 0, "maxReplicas": 2})
    await world.settle()
    (application,) = world.applications
    world.serve.replicas[application] = 0
    await world.settle()
    (mine,) = world.kube.all(CONTROLLER_REVISION)
    groups = _groups(world)
    world.kube.put({**mine, "data": {**mine["data"], "schema": 2}})
    world.kube.remove(MODEL_SERVICE, "smollm2", namespace="team-a")
    world.kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "unrelated"}})
    await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
    assert _groups(world) == groups


async def test_an_application_stays_while_the_record_of_its_revision_does(world: World) -> None:
    """The garbage collector has not come yet to what a deleted service of the same name left."""
    world.apply_service()
    await world.settle()
    (old,) = world.applications
    service = world.kube.find(MODEL_SERVICE, "smollm2", namespace="team-a")
    assert service is not None
    world.kube.remove(MODEL_SERVICE, "smollm2", namespace="team-a")
    world.kube.put({**service, "metadata": {**service["metadata"], "uid": "another"}, "status": {}})
    world.app.routed[SERVICE] = Routed("", world.now)
    await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
    assert world.applications[old] == "RUNNING"
    world.kube.collect_garbage()
    await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
    assert world.applications[old] == "DELETING"


async def test_what_is_going_away_is_not_asked_for_until_it_is_gone(world: World) -> None:
    world.apply_service()
    await world.settle()
    (application,) = world.applications
    world.serve.slow.add(application)
    world.apply_service(suspend=True)
    await turns(world, 8)
    assert world.applications == {application: "DELETING"}
    puts = len(world.serve.puts)
    world.apply_service()
    await turns(world, 5)
    assert all(application not in put for put in world.serve.puts[puts:])
    world.serve.slow.clear()
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_events_tell_of_transitions_only(world: World) -> None:
    world.apply_service()
    await world.settle()
    reasons = [reason for _, reason, _ in world.published]
    assert "Serving" in reasons
    assert not any(warning for warning, _, _ in world.published)
    told = len(world.published)
    await turns(world, 5)
    assert len(world.published) == told
    world.broken = {BAD: NOT_FOUND}
    world.apply_service(BAD)
    await turns(world, 12)
    assert (True, "ModelNotFound") in [(warning, reason) for warning, reason, _ in world.published[told:]]


def _groups(world: World) -> list[Manifest]:
    (ray,) = world.kube.all(RAY_CLUSTER)
    return list(ray["spec"]["workerGroupSpecs"])


async def test_a_field_of_newer_crds_is_named_with_what_is_older(world: World) -> None:
    world.apply_service(tomorrow={"a": 1})
    await turns(world, 2)
    assert world.conditions()["Accepted"] == ("False", "InvalidSpec")
    assert "does not know spec.tomorrow" in world.message("Accepted")
    assert "Upgrade the operator" in world.message("Accepted")
    world.apply_service(replicas=-1)
    await turns(world, 2)
    assert "Upgrade the operator" not in world.message("Accepted")
