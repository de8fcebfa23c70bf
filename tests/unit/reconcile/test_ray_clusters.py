"""RayClusters of one ServingCluster: one that is refused, old ones, and a ServingCluster that cannot be read."""

from datetime import timedelta

import pytest
from tests.unit.reconcile.world import CLUSTER, SERVICE, World

from modelyard_operator.desired.revision import Phase
from modelyard_operator.kube.client import CONTROLLER_REVISION, CRD, MODEL_SERVICE, RAY_CLUSTER, SERVING_CLUSTER
from modelyard_operator.kube.errors import Forbidden, Invalid, KubeError

QUOTA = "admission webhook denied the request: team quota"


async def turns(world: World, count: int) -> None:
    for _ in range(count):
        await world.turn()


def ray_clusters(world: World) -> list[str]:
    return [m["metadata"]["name"] for m in world.kube.all(RAY_CLUSTER)]


def edit(world: World, **runtime: object) -> None:
    """Change the ServingCluster: another head is another RayCluster."""
    shared = world.kube.find(SERVING_CLUSTER, CLUSTER.name, namespace=CLUSTER.namespace)
    assert shared is not None
    world.kube.put({**shared, "spec": {**shared["spec"], **runtime}})


@pytest.mark.parametrize("error", [Invalid(QUOTA), Forbidden(QUOTA)], ids=["invalid", "forbidden"])
async def test_the_first_ray_cluster_that_is_refused_is_told(world: World, error: KubeError) -> None:
    world.kube.fail("apply", RAY_CLUSTER, error, times=4)
    world.apply_service()
    await turns(world, 3)
    assert ray_clusters(world) == []
    conditions = world.conditions(SERVING_CLUSTER, CLUSTER)
    assert conditions["Degraded"] == ("True", "ConfigRefused")
    assert conditions["Ready"] == ("False", "ConfigRefused")
    assert QUOTA in world.message("Degraded", SERVING_CLUSTER, CLUSTER)
    assert world.conditions()["Ready"] == ("False", "ConfigRefused")
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("False", "Healthy")


async def test_a_ray_cluster_that_is_refused_does_not_stop_the_others(world: World) -> None:
    world.apply_service()
    await world.settle()
    (old,) = ray_clusters(world)
    (application,) = world.applications
    world.kube.fail("apply", RAY_CLUSTER, Invalid(QUOTA), times=12)
    edit(world, head={"memory": "8Gi"})
    await turns(world, 2)
    world.apply_service(replicas=2)
    await turns(world, 6)
    assert ray_clusters(world) == [old]
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("True", "ConfigRefused")
    assert QUOTA in world.message("Degraded", SERVING_CLUSTER, CLUSTER)
    assert world.serve.target(application) == 2
    assert world.message("Available") == "2 of 2 replicas serve."
    await turns(world, 30)
    assert len(ray_clusters(world)) == 1
    assert ray_clusters(world) != [old]
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("False", "Healthy")


async def test_a_change_of_a_standing_ray_cluster_that_is_refused_leaves_it_in_view(world: World) -> None:
    world.apply_service()
    await world.settle()
    (application,) = world.applications
    world.kube.fail("apply", RAY_CLUSTER, Invalid(QUOTA), times=8)
    world.apply_service(resources={"memory": "4Gi"})
    await turns(world, 6)
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("True", "ConfigRefused")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Available"] == ("True", "Serving")
    assert world.conditions()["Available"] == ("True", "Serving")
    assert world.applications[application] == "RUNNING"
    await turns(world, 20)
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_serving_cluster_that_cannot_be_read_is_told_and_what_runs_goes_on(world: World) -> None:
    world.apply_service()
    await world.settle()
    before = world.applications, world.document, world.kube.all(RAY_CLUSTER)
    edit(world, head={"memory": "much"})
    await turns(world, 4)
    conditions = world.conditions(SERVING_CLUSTER, CLUSTER)
    assert (conditions["Accepted"], conditions["Ready"]) == (("False", "InvalidSpec"),) * 2
    assert conditions["Available"] == ("True", "Serving")
    assert "head.memory" in world.message("Accepted", SERVING_CLUSTER, CLUSTER)
    assert before == (world.applications, world.document, world.kube.all(RAY_CLUSTER))
    edit(world, head={})
    await world.settle()
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("True", "Serving")


async def test_a_serving_cluster_that_cannot_be_read_can_be_deleted(world: World) -> None:
    edit(world, head={"memory": "much"})
    await turns(world, 2)
    world.delete(SERVING_CLUSTER, CLUSTER)
    await turns(world, 2)
    assert world.kube.all(SERVING_CLUSTER) == []


async def test_an_old_ray_cluster_stays_while_an_application_there_finishes(world: World) -> None:
    """Its service and all records of it are gone by then."""
    world.apply_service()
    await world.settle()
    (old,) = ray_clusters(world)
    (application,) = world.applications
    world.serve.slow.add(application)
    serve = world.serve
    edit(world, head={"memory": "8Gi"})
    world.delete(MODEL_SERVICE, SERVICE)
    await turns(world, 12)
    assert world.revisions == {}
    assert world.kube.all(MODEL_SERVICE) == []
    assert serve.states == {application: "DELETING"}
    assert old in ray_clusters(world)
    serve.slow.clear()
    await turns(world, 4)
    assert len(ray_clusters(world)) == 1
    assert old not in ray_clusters(world)


async def test_a_stopped_revision_keeps_no_old_ray_cluster(world: World) -> None:
    world.apply_service()
    await world.settle()
    world.apply_service(suspend=True)
    await world.settle()
    (old,) = ray_clusters(world)
    assert list(world.revisions.values()) == ["Stopped"]
    edit(world, head={"memory": "8Gi"})
    await turns(world, 4)
    assert len(ray_clusters(world)) == 1
    assert old not in ray_clusters(world)
    world.apply_service()
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_an_old_ray_cluster_that_takes_its_time_to_go_is_deleted_once(world: World) -> None:
    world.apply_service(suspend=True)
    await world.settle()
    (old,) = world.kube.all(RAY_CLUSTER)
    world.kube.put({**old, "metadata": {**old["metadata"], "finalizers": ["ray.io/gcs-ft-redis-cleanup-finalizer"]}})
    edit(world, head={"memory": "8Gi"})
    await turns(world, 8)
    assert old["metadata"]["name"] in ray_clusters(world)
    deleted = [r for r in world.kube.requests if (r.verb, r.kind) == ("delete", RAY_CLUSTER.kind)]
    assert len(deleted) == 1


def upgrade(world: World, ray_version: str) -> None:
    """Another release of the operator, whose default image has another Ray."""
    image = f"modelyard-serving:{ray_version}"
    world.settings = world.settings.model_copy(update={"ray_version": ray_version, "serving_image": image})
    world.start_operator()


def homes(world: World) -> dict[str, str]:
    """Where the active revision of each service runs."""
    records = world.kube.all(CONTROLLER_REVISION)
    active = [r for r in records if r["metadata"]["annotations"]["modelyard.dev/phase"] == Phase.ACTIVE]
    return {record["metadata"]["ownerReferences"][0]["name"]: record["data"]["rayCluster"] for record in active}


async def test_another_default_ray_moves_only_what_is_edited(world: World) -> None:
    world.apply_service(name="steady")
    world.apply_service(name="edited")
    await world.settle()
    (old,) = ray_clusters(world)
    standing = world.kube.find(RAY_CLUSTER, old, namespace=CLUSTER.namespace)
    upgrade(world, "2.61.0")
    await world.settle()
    assert ray_clusters(world) == [old]
    assert world.kube.find(RAY_CLUSTER, old, namespace=CLUSTER.namespace) == standing

    world.apply_service(name="edited", requestTimeout="31m")
    await world.settle()
    (new,) = set(ray_clusters(world)) - {old}
    assert homes(world) == {"steady": old, "edited": new}
    made = world.kube.find(RAY_CLUSTER, new, namespace=CLUSTER.namespace)
    assert made is not None
    assert made["spec"]["rayVersion"] == "2.61.0"

    world.apply_service(name="steady", requestTimeout="31m")
    await world.settle()
    assert homes(world) == {"steady": new, "edited": new}
    assert ray_clusters(world) == [new]


async def test_a_service_whose_old_ray_cluster_is_lost_moves_to_the_new_ray(world: World) -> None:
    world.apply_service(name="steady")
    await world.settle()
    (old,) = ray_clusters(world)
    upgrade(world, "2.61.0")
    await world.settle()
    world.kube.remove(RAY_CLUSTER, old, namespace=CLUSTER.namespace)
    await world.settle()
    (new,) = ray_clusters(world)
    assert new != old
    assert homes(world) == {"steady": new}


async def test_without_kuberay_nothing_moves_to_the_new_ray(world: World) -> None:
    world.apply_service(name="steady")
    await world.settle()
    records = world.revisions
    upgrade(world, "2.61.0")
    await world.settle()
    world.kube.remove(CRD, "rayclusters.ray.io")
    world.now += timedelta(minutes=1)  # What was seen of KubeRay is believed for a while.
    await turns(world, 6)
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("True", "KubeRayAbsent")
    assert world.revisions == records


async def test_another_head_still_moves_all_after_an_upgrade(world: World) -> None:
    world.apply_service()
    await world.settle()
    upgrade(world, "2.61.0")
    await world.settle()
    edit(world, head={"memory": "8Gi"})
    await world.settle()
    (new,) = ray_clusters(world)
    assert set(homes(world).values()) == {new}
