"""A head that runs on without its autoscaler is replaced where that is harmless, and told where it is not."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.unit.fakes.kube import Write
from tests.unit.reconcile.world import CLUSTER, SERVICE, World

from modelyard_operator.kube.client import POD, RAY_CLUSTER, SERVING_CLUSTER, Manifest
from modelyard_operator.observed.pods import parse_pods


def head(world: World) -> Manifest:
    found = [each for each in world.kube.all(POD) if each["metadata"]["labels"].get("ray.io/node-type") == "head"]
    (only,) = found
    return only


def left_by_its_autoscaler(pod: Manifest) -> Manifest:
    """As the kubelet tells of a head in which Ray runs on alone."""
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]
    containers = [
        {"name": "ray-head", "state": {"running": {"startedAt": "2026-01-01T00:00:02Z"}}},
        {"name": "autoscaler", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
    ]
    spec = {**pod.get("spec", {}), "restartPolicy": "Never"}
    return {**pod, "spec": spec, "status": {**pod["status"], "conditions": conditions, "containerStatuses": containers}}


def deletions(world: World) -> int:
    name = f"{world.kube.all(RAY_CLUSTER)[0]['metadata']['name']}-head"
    return world.kube.writes.count(Write("delete", "Pod", CLUSTER.namespace, name))


async def look(world: World) -> None:
    await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)


async def serving(world: World, *, highly_available: bool = True) -> World:
    if not highly_available:
        shared = world.kube.find(SERVING_CLUSTER, CLUSTER.name, namespace=CLUSTER.namespace)
        assert shared is not None
        world.kube.put({**shared, "spec": {**shared["spec"], "highAvailability": False}})
    world.apply_service()
    await world.settle()
    return world


def told(world: World) -> list[str]:
    return [message for _, reason, message in world.published if reason == "AutoscalerGone"]


async def test_it_is_deleted_once_and_told(world: World) -> None:
    await serving(world)
    name = head(world)["metadata"]["name"]
    world.kube.put(left_by_its_autoscaler(head(world)))
    await look(world)
    assert deletions(world) == 1
    assert f"The head pod {name} of RayCluster" in told(world)[0]
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("True", "AutoscalerGone")


async def test_one_that_ends_again_waits_ten_minutes(world: World) -> None:
    await serving(world)
    pod = head(world)
    for expected, passed in ((1, 0), (1, 599), (2, 1)):
        world.now += timedelta(seconds=passed)
        world.kube.put(left_by_its_autoscaler({**pod, "metadata": {**pod["metadata"], "uid": f"at-{world.now}"}}))
        await look(world)
        assert deletions(world) == expected
        if passed == 599:
            assert "logs" in world.message("Degraded", SERVING_CLUSTER, CLUSTER)


async def test_without_high_availability_it_is_left_while_a_worker_is_ready(world: World) -> None:
    await serving(world, highly_available=False)
    world.kube.put(left_by_its_autoscaler(head(world)))
    await look(world)
    assert deletions(world) == 0
    assert "kubectl -n models delete pod" in world.message("Degraded", SERVING_CLUSTER, CLUSTER)
    for pod in world.kube.all(POD):
        if "ray.io/group" in pod["metadata"]["labels"]:
            world.kube.remove(POD, pod["metadata"]["name"], namespace=CLUSTER.namespace)
    await look(world)
    assert deletions(world) == 1


async def test_it_waits_for_redis(world: World) -> None:
    await serving(world)
    (redis,) = [each for each in world.kube.all(POD) if each["metadata"]["name"].startswith("shared-redis")]
    world.kube.remove(POD, redis["metadata"]["name"], namespace=CLUSTER.namespace)
    world.kube.put(left_by_its_autoscaler(head(world)))
    await look(world)
    assert deletions(world) == 0
    assert "once the Redis" in world.message("Degraded", SERVING_CLUSTER, CLUSTER)
    world.kube.put(redis)
    await look(world)
    assert deletions(world) == 1


async def test_one_that_is_another_by_now_is_left(world: World) -> None:
    await serving(world)
    well = head(world)
    world.app.store.note(
        POD, {**left_by_its_autoscaler(well), "metadata": {**well["metadata"], "resourceVersion": "99999"}}
    )
    await look(world)
    assert deletions(world) == 0


def restarted_by_the_kubelet(pod: Manifest) -> None:
    pod["spec"]["restartPolicy"] = "Always"


def without_ray(pod: Manifest) -> None:
    """KubeRay replaces it by itself."""
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 1}}


def both_run(pod: Manifest) -> None:
    pod["status"]["containerStatuses"][1]["state"] = {"running": {"startedAt": "2026-01-01T00:00:02Z"}}


@pytest.mark.parametrize("change", [restarted_by_the_kubelet, without_ray, both_run])
async def test_others_are_kuberays(world: World, change: Callable[[Manifest], None]) -> None:
    await serving(world)
    pod = left_by_its_autoscaler(head(world))
    assert parse_pods([pod])[0].autoscaler_ended
    change(pod)
    world.kube.put(pod)
    await look(world)
    assert deletions(world) == 0
    assert not parse_pods([pod])[0].autoscaler_ended
    assert SERVICE.name in next(iter(world.applications))
