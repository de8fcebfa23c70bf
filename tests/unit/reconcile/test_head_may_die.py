"""A ServingCluster with high availability: its Redis, a head that dies and comes back, and its deletion."""

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.reconcile.world import CLUSTER, SERVICE, World

from modelyard_operator.kube.client import (
    CLAIM,
    DISRUPTION_BUDGET,
    MODEL_SERVICE,
    POD,
    RAY_CLUSTER,
    SECRET,
    SERVING_CLUSTER,
    STATEFUL_SET,
    Kind,
    Manifest,
)
from modelyard_operator.kube.client import SERVICE as KUBE_SERVICE
from modelyard_operator.kube.errors import Forbidden

REDIS = "shared-redis"
PARTS = (STATEFUL_SET, KUBE_SERVICE, CLAIM, SECRET, DISRUPTION_BUDGET)
PROVISIONED = {"type": "RayClusterProvisioned", "status": "True"}


async def turns(world: World, count: int) -> None:
    for _ in range(count):
        await world.turn()


def redis(world: World, kind: Kind) -> Manifest | None:
    return world.kube.find(kind, REDIS, namespace=CLUSTER.namespace)


def edit(world: World, **spec: Any) -> None:
    shared = world.kube.find(SERVING_CLUSTER, CLUSTER.name, namespace=CLUSTER.namespace)
    assert shared is not None
    world.kube.put({**shared, "spec": {**shared["spec"], **spec}})


async def serving(world: World, **spec: Any) -> World:
    if spec:
        edit(world, **spec)
    world.apply_service()
    await world.settle()
    return world


class Head:
    """The head of the only RayCluster, which dies and comes back as another pod."""

    def __init__(self, world: World) -> None:
        self.world = world
        (self.ray,) = world.kube.all(RAY_CLUSTER)
        self.name = self.ray["metadata"]["name"]

    def dies(self) -> None:
        status = {**self.ray["status"], "conditions": [PROVISIONED]}
        self.world.kube.put_status(RAY_CLUSTER, self.name, status, namespace=CLUSTER.namespace)
        self.pod = self.world.kube.find(POD, f"{self.name}-head", namespace=CLUSTER.namespace)
        self.world.kube.remove(POD, f"{self.name}-head", namespace=CLUSTER.namespace)

    def comes_back(self) -> None:
        assert self.pod is not None
        now = self.world.now.isoformat()
        running = {"name": "ray", "state": {"running": {"startedAt": now}}}
        metadata = {**self.pod["metadata"], "creationTimestamp": now, "uid": "uid-new-head"}
        status = {**self.pod["status"], "containerStatuses": [running]}
        self.world.kube.put({**self.pod, "metadata": metadata, "status": status})
        self.world.kube.put_status(RAY_CLUSTER, self.name, self.ray["status"], namespace=CLUSTER.namespace)


async def test_a_redis_is_made_once_and_the_head_keeps_its_state_there(world: World) -> None:
    await serving(world)
    assert all(redis(world, kind) for kind in PARTS)
    (ray,) = world.kube.all(RAY_CLUSTER)
    options = ray["spec"]["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "shared-redis:6379"
    assert options["redisPassword"] == {"valueFrom": {"secretKeyRef": {"name": REDIS, "key": "password"}}}
    secret = redis(world, SECRET)
    assert secret is not None
    password = secret["stringData"]["password"]
    assert password not in str([redis(world, kind) for kind in PARTS if kind != SECRET])
    world.now += timedelta(minutes=1)
    before = len(world.kube.writes)
    await turns(world, 3)
    world.start_operator()
    await turns(world, 3)
    assert world.kube.writes[before:] == []


async def test_without_high_availability_there_is_no_redis(world: World) -> None:
    await serving(world, highAvailability=False)
    assert not any(redis(world, kind) for kind in PARTS)
    (ray,) = world.kube.all(RAY_CLUSTER)
    assert "gcsFaultToleranceOptions" not in ray["spec"]


async def test_with_a_redis_of_the_platforms_own_there_is_none_of_ours(world: World) -> None:
    await serving(world, redis={"address": "redis.databases.svc:6379", "username": "ray"})
    assert not any(redis(world, kind) for kind in PARTS)
    (ray,) = world.kube.all(RAY_CLUSTER)
    assert ray["spec"]["gcsFaultToleranceOptions"] == {
        "redisAddress": "redis.databases.svc:6379",
        "redisUsername": {"value": "ray"},
    }


async def test_while_the_head_is_away_the_service_stays_available_and_says_so(world: World) -> None:
    await serving(world)
    routes, puts = world.document, list(world.serve.puts)
    workers = [each for each in routes.backends[0].servers if not each.backup]
    head = Head(world)
    head.dies()
    await turns(world, 5)
    assert world.conditions()["Available"] == ("True", "Serving")
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert world.conditions()["Degraded"] == ("True", "HeadGone")
    assert "serve on" in world.message("Degraded")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("True", "HeadGone")
    assert [each for each in world.document.backends[0].servers if not each.backup] == workers
    assert list(world.revisions.values()) == ["Active"]
    # Its controller does not yet know what runs, then knows the application without its replicas.
    world.serve.forgotten |= world.serve.states.keys()
    head.comes_back()
    await turns(world, 3)
    assert world.serve.puts == puts
    world.serve.without_replicas |= world.serve.forgotten
    world.serve.forgotten.clear()
    await turns(world, 3)
    assert [each for each in world.document.backends[0].servers if not each.backup] == workers
    assert world.conditions()["Available"] == ("True", "Serving")
    world.serve.without_replicas.clear()
    await world.settle()
    assert world.serve.puts == puts
    assert world.conditions()["Degraded"] == ("False", "Healthy")
    assert world.document == routes


async def test_what_a_new_head_never_finds_again_is_written_anew(world: World) -> None:
    await serving(world)
    head = Head(world)
    head.dies()
    await turns(world, 2)
    world.serve.states.clear()
    head.comes_back()
    puts = len(world.serve.puts)
    world.now += timedelta(seconds=301)
    await world.settle()
    assert len(world.serve.puts) == puts + 1
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_what_is_taken_from_a_head_that_has_found_all_again_is_put_back_at_once(world: World) -> None:
    await serving(world)
    head = Head(world)
    head.dies()
    await turns(world, 2)
    head.comes_back()
    await world.settle()
    puts = len(world.serve.puts)
    # Somebody else writes an empty config, within the time that a new head has to find what runs.
    world.serve.states.clear()
    world.now += timedelta(seconds=20)
    await world.settle()
    assert len(world.serve.puts) == puts + 1
    assert any("who removed" in message for _, _, message in world.published)


async def test_a_worker_that_goes_while_the_head_is_away_is_not_taken_to_serve(world: World) -> None:
    await serving(world)
    Head(world).dies()
    await turns(world, 2)
    for pod in world.kube.all(POD):
        if pod["metadata"]["labels"].get("ray.io/node-type") == "worker":
            not_ready = [{"type": "Ready", "status": "False"}]
            world.kube.put({**pod, "status": {**pod["status"], "conditions": not_ready}})
    for look in (world.cluster_loop.reconcile(CLUSTER), world.service_loop.reconcile(SERVICE)):
        await look
    assert world.conditions()["Available"] == ("False", "NotServing")


async def test_without_a_storage_class_no_head_is_made_and_the_condition_says_what_to_do(world: World) -> None:
    world.kube.default_storage_class = None
    world.apply_service()
    await turns(world, 4)
    assert world.kube.all(RAY_CLUSTER) == []
    for kind, key in ((SERVING_CLUSTER, CLUSTER), (MODEL_SERVICE, SERVICE)):
        assert world.conditions(kind, key)["Ready"] == ("False", "NoStorageClass")
        message = world.message("Degraded", kind, key)
        for way_out in ("spec.redis.storage.storageClassName", "spec.redis.address", "spec.highAvailability"):
            assert way_out in message
    claim = redis(world, CLAIM)
    assert claim is not None
    world.kube.put({**claim, "spec": {**claim["spec"], "storageClassName": "made-later"}})
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_claim_that_is_refused_is_told(world: World) -> None:
    world.kube.fail("create", CLAIM, Forbidden("exceeded quota: storage"), times=2)
    world.apply_service()
    await turns(world, 2)
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("False", "ConfigRefused")
    assert "exceeded quota" in world.message("Ready", SERVING_CLUSTER, CLUSTER)
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_redis_that_is_down_is_the_clusters_trouble_and_not_the_services(world: World) -> None:
    await serving(world)
    world.redis_works = False
    world.kube.remove(POD, f"{REDIS}-0", namespace=CLUSTER.namespace)
    await turns(world, 2)
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("True", "RedisNotReady")
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Available"] == ("True", "Serving")
    assert world.conditions()["Degraded"] == ("False", "Healthy")
    world.redis_works = True
    await world.settle()
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Degraded"] == ("False", "Healthy")


@pytest.mark.parametrize(
    ("kind", "edited"),
    [
        (STATEFUL_SET, {"replicas": 0}),
        (KUBE_SERVICE, {"ports": []}),
        (DISRUPTION_BUDGET, {"minAvailable": 0}),
        (STATEFUL_SET, None),
        (KUBE_SERVICE, None),
        (DISRUPTION_BUDGET, None),
    ],
)
async def test_what_somebody_does_to_redis_is_undone_and_told(
    world: World, kind: Kind, edited: dict[str, Any] | None
) -> None:
    await serving(world)
    before = redis(world, kind)
    assert before is not None
    if edited is None:
        world.kube.remove(kind, REDIS, namespace=CLUSTER.namespace)
    else:
        world.kube.put({**before, "spec": {**before["spec"], **edited}})
    world.now += timedelta(seconds=31)
    await world.settle()
    after = redis(world, kind)
    assert after is not None
    assert after["spec"] == before["spec"]
    (told,) = [message for _, reason, message in world.published if reason == "DriftUndone"]
    assert f"{kind.kind} models/{REDIS} was {'changed' if edited else 'deleted'}" in told


async def test_another_password_makes_another_pod_of_redis(world: World) -> None:
    """One that went on with the lost password would let no new head in."""
    await serving(world)
    before = redis(world, STATEFUL_SET)
    world.kube.remove(SECRET, REDIS, namespace=CLUSTER.namespace)
    world.now += timedelta(seconds=31)
    await world.settle()
    after = redis(world, STATEFUL_SET)
    assert before is not None
    assert after is not None
    assert before["spec"]["template"]["metadata"] != after["spec"]["template"]["metadata"]
    assert before["spec"]["template"]["spec"] == after["spec"]["template"]["spec"]


async def test_redis_stays_as_it_was_rendered_until_its_owner_changes_something(world: World) -> None:
    await serving(world)
    before = redis(world, STATEFUL_SET)
    world.settings = world.settings.model_copy(update={"redis_image": "redis:2"})
    world.start_operator()
    await turns(world, 3)
    assert redis(world, STATEFUL_SET) == before
    edit(world, head={"memory": "8Gi"})
    await world.settle()
    after = redis(world, STATEFUL_SET)
    assert after is not None
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "redis:2"


async def test_what_somebody_else_has_under_the_name_is_left_alone(world: World) -> None:
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": REDIS, "namespace": "models"},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {}}}},
    }
    stood = world.kube.put(theirs)
    world.apply_service()
    await turns(world, 3)
    assert redis(world, STATEFUL_SET) == stood
    assert world.conditions(SERVING_CLUSTER, CLUSTER)["Ready"] == ("False", "ConfigRefused")
    assert "belongs to somebody else" in world.message("Ready", SERVING_CLUSTER, CLUSTER)


async def test_the_revisions_of_its_stateful_set_are_none_of_a_service(world: World) -> None:
    """Kubernetes labels them as the pods; taken for a service's that nobody can read, they would keep everything."""
    await serving(world)
    stateful_set = redis(world, STATEFUL_SET)
    assert stateful_set is not None
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]
    metadata = {"name": f"{REDIS}-6c8d", "namespace": CLUSTER.namespace, "labels": labels}
    revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 1, "data": {}}
    world.kube.put(revision)
    edit(world, head={"memory": "8Gi"})
    for _ in range(40):
        await world.turn()
    assert len(world.kube.all(RAY_CLUSTER)) == 1, "the old one is put away"


async def test_switched_off_redis_goes_after_the_last_ray_cluster_that_needs_it(world: World) -> None:
    await serving(world)
    (old,) = [each["metadata"]["name"] for each in world.kube.all(RAY_CLUSTER)]
    edit(world, highAvailability=False)
    for _ in range(60):
        await world.turn()
        stands = world.kube.find(RAY_CLUSTER, old, namespace=CLUSTER.namespace) is not None
        assert redis(world, STATEFUL_SET) is not None or not stands
    assert not any(redis(world, kind) for kind in PARTS if kind != SECRET)
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_cluster_that_goes_takes_its_ray_clusters_first_and_waits_for_no_job(world: World) -> None:
    await world.settle()
    (ray,) = world.kube.all(RAY_CLUSTER)
    assert ray["metadata"]["annotations"]["ray.io/gcs-ft-deletion-timeout"] == "60"
    world.kube.put({**ray, "metadata": {**ray["metadata"], "finalizers": ["ray.io/gcs-ft-redis-cleanup-finalizer"]}})
    world.delete(SERVING_CLUSTER, CLUSTER)
    await turns(world, 3)
    (ray,) = world.kube.all(RAY_CLUSTER)
    assert ray["metadata"]["deletionTimestamp"]
    assert ray["metadata"]["annotations"]["ray.io/gcs-ft-deletion-timeout"] == "1"
    assert redis(world, STATEFUL_SET) is not None
    world.kube.remove(RAY_CLUSTER, ray["metadata"]["name"], namespace=CLUSTER.namespace)
    await turns(world, 2)
    assert world.kube.all(SERVING_CLUSTER) == []
    assert not any(redis(world, kind) for kind in PARTS)


async def test_a_kuberay_that_is_gone_does_not_hold_the_deletion_for_ever(world: World) -> None:
    await world.settle()
    (ray,) = world.kube.all(RAY_CLUSTER)
    world.kube.put({**ray, "metadata": {**ray["metadata"], "finalizers": ["ray.io/gcs-ft-redis-cleanup-finalizer"]}})
    world.delete(SERVING_CLUSTER, CLUSTER)
    await turns(world, 3)
    assert world.kube.all(SERVING_CLUSTER)
    world.now += timedelta(seconds=91)
    await turns(world, 1)
    assert world.kube.all(SERVING_CLUSTER) == []


async def test_in_a_namespace_that_goes_the_same(world: World) -> None:
    await serving(world)
    going = {"name": "models", "deletionTimestamp": world.now.isoformat()}
    world.kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": going})
    world.delete(SERVING_CLUSTER, CLUSTER)
    await turns(world, 2)
    assert world.kube.all(SERVING_CLUSTER) == []
