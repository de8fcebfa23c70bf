"""A pool with limits, shared by namespaces and RayClusters: fair, bounded, told, and at rest."""

from typing import Any

from tests.unit.desired.samples import cluster_manifest, pool_manifest, service_manifest
from tests.unit.reconcile.world import World

from modelyard_operator.kube.client import ACCELERATOR_POOL, MODEL_SERVICE, POD, RAY_CLUSTER, SERVING_CLUSTER
from modelyard_operator.reconcile.result import Key


def limit(world: World, **limits: Any) -> None:
    world.edit(pool_manifest(limits=limits))


def serve(world: World, name: str, namespace: str = "team-a", **spec: Any) -> Key:
    manifest = service_manifest(**spec)
    world.edit({**manifest, "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"}})
    return Key(namespace, name)


def own_cluster(world: World, namespace: str) -> dict[str, str]:
    """A ServingCluster beside the shared one."""
    manifest = cluster_manifest()
    metadata = {"name": "own", "namespace": namespace, "uid": f"uid-own-{namespace}"}
    world.kube.put({**manifest, "metadata": metadata})
    return {"name": "own", "namespace": namespace}


def workers(world: World) -> int:
    return sum(p["metadata"]["labels"].get("ray.io/node-type") == "worker" for p in world.kube.all(POD))


def target(world: World, key: Key) -> int:
    """Replicas that Ray Serve is told to run of a service, over all its revisions."""
    return sum(
        serve.target(app) for serve in world.serves.values() for app in serve.states if app.startswith(".".join(key))
    )


def grow(world: World, key: Key, replicas: int) -> None:
    """Load: Ray's autoscaler wants so many."""
    for each in world.serves.values():
        for application in each.states:
            if application.startswith(".".join(key)):
                each.replicas[application] = replicas


async def turns(world: World, count: int, *, most: int | None = None) -> None:
    for _ in range(count):
        await world.turn()
        if most is not None:
            assert workers(world) <= most


async def test_what_fits_runs_as_it_asks_and_nothing_is_said(world: World) -> None:
    limit(world, maxWorkers=4)
    first, second = serve(world, "x", replicas=2), serve(world, "y", "team-b", replicas=2)
    await world.settle()
    for key in (first, second):
        assert world.conditions(key=key)["Ready"] == ("True", "Serving")
        assert world.conditions(key=key)["Progressing"] == ("False", "Complete")
        assert world.message("Progressing", key=key) == ""


async def test_a_full_pool_is_told_with_numbers_and_shared_when_somebody_lets_go(world: World) -> None:
    limit(world, maxWorkers=4)
    first = serve(world, "x", replicas=3)
    await world.settle()
    late = serve(world, "y", "team-b", replicas=2)
    await world.settle()
    assert (target(world, first), target(world, late)) == (3, 1)
    assert workers(world) == 4
    assert world.conditions(key=late)["Progressing"] == ("True", "PoolFull")
    told = world.message("Progressing", key=late)
    assert "pool cpu has 4 of 4 workers in use (team-a 3, team-b 1); this service holds 1 of 2 wanted" in told
    assert "spec.limits.maxWorkers of AcceleratorPool cpu" in told
    assert world.conditions(key=late)["Ready"] == ("True", "Serving")
    serve(world, "x", replicas=2)
    await world.settle()
    assert (target(world, first), target(world, late)) == (2, 2)
    assert world.conditions(key=late)["Progressing"] == ("False", "Complete")


async def test_one_that_finds_no_worker_at_all_waits_and_says_so(world: World) -> None:
    limit(world, maxWorkers=2)
    serve(world, "x", replicas=2)
    await world.settle()
    late = serve(world, "y", "team-b")
    await world.settle()
    assert world.conditions(key=late)["Ready"] == ("False", "PoolFull")
    assert "this service holds 0 of 1 wanted" in world.message("Ready", key=late)
    assert not any("team-b" in application for application in world.applications)
    limit(world, maxWorkers=3)
    await world.settle()
    assert world.conditions(key=late)["Ready"] == ("True", "Serving")


async def test_over_all_ray_clusters_the_limit_is_never_exceeded_and_namespaces_share_fairly(world: World) -> None:
    limit(world, maxWorkers=6)
    auto = {"minReplicas": 1, "maxReplicas": 6}
    rich = serve(world, "x", autoscaling=auto)
    await world.settle()
    grow(world, rich, 6)
    await turns(world, 10, most=6)
    assert target(world, rich) == 6
    poor = serve(world, "y", "team-b", autoscaling=auto, servingCluster=own_cluster(world, "team-b"))
    for _ in range(60):
        grow(world, rich, 6)
        grow(world, poor, 6)
        await turns(world, 1, most=6)
    assert len(world.serves) == 2
    assert (target(world, rich), target(world, poor)) == (3, 3)
    assert "this service holds 3 of at most 6" in world.message("Progressing", key=rich)
    grow(world, rich, 1)
    for _ in range(20):
        grow(world, rich, 1)
        grow(world, poor, 6)
        await turns(world, 1, most=6)
    assert (target(world, rich), target(world, poor)) == (1, 4), "one stays for the other to show that it wants more"


async def test_a_namespace_has_its_limit_over_all_its_services(world: World) -> None:
    limit(world, maxWorkersPerNamespace=3, namespaces=[{"name": "team-b", "maxWorkers": 1}])
    first, second = serve(world, "x", replicas=2), serve(world, "y", replicas=2)
    other = serve(world, "z", "team-b", replicas=2)
    await world.settle()
    assert target(world, first) + target(world, second) == 3
    assert target(world, other) == 1
    told = world.message("Progressing", key=other)
    assert "namespace team-b 1 of 1" in told
    assert "limits.namespaces" in told


async def test_a_limit_that_is_lowered_takes_no_minimum_away(world: World) -> None:
    fixed = serve(world, "x", replicas=3)
    loose = serve(world, "y", "team-b", autoscaling={"minReplicas": 1, "maxReplicas": 4})
    await world.settle()
    grow(world, loose, 3)
    await turns(world, 8)
    assert workers(world) == 6
    limit(world, maxWorkers=2)
    await turns(world, 12)
    assert (target(world, fixed), target(world, loose)) == (3, 1)
    (pool,) = (m for m in world.kube.all(ACCELERATOR_POOL) if m["metadata"]["name"] == "cpu")
    assert pool["status"]["usage"] == "4/2"
    for manifest in world.kube.all(RAY_CLUSTER):
        for group in manifest["spec"]["workerGroupSpecs"]:
            assert group["maxReplicas"] == 4, "never below what stands"


async def test_groups_are_as_large_as_their_shares(world: World) -> None:
    limit(world, maxWorkers=5)
    serve(world, "x", replicas=2)
    serve(world, "y", "team-b", replicas=2, resources={"memory": "8Gi"})
    await world.settle()
    (ray,) = world.kube.all(RAY_CLUSTER)
    assert [group["maxReplicas"] for group in ray["spec"]["workerGroupSpecs"]] == [2, 2]


async def test_the_pool_tells_who_uses_it(world: World) -> None:
    limit(world, maxWorkers=4, namespaces=[{"name": "team-b", "maxWorkers": 2}])
    serve(world, "x", replicas=2)
    serve(world, "y", "team-b")
    await world.settle()
    status = (await world.look_at_pool())["status"]
    assert (status["workers"], status["maxWorkers"], status["usage"]) == (3, 4, "3/4")
    assert status["namespaces"] == [{"name": "team-a", "workers": 2}, {"name": "team-b", "workers": 1, "maxWorkers": 2}]


async def test_nothing_is_written_at_rest_nor_after_a_restart(world: World) -> None:
    limit(world, maxWorkers=5)
    auto = {"minReplicas": 1, "maxReplicas": 5}
    first, second = serve(world, "x", autoscaling=auto), serve(world, "y", "team-b", autoscaling=auto)
    await world.settle()
    grow(world, first, 4)
    for _ in range(12):
        grow(world, first, 4)
        await world.turn()
    assert (target(world, first), target(world, second)) == (3, 1)
    writes, puts = len(world.kube.writes), [len(serve.puts) for serve in world.serves.values()]
    await turns(world, 12)
    assert len(world.kube.writes) == writes
    world.start_operator()
    await turns(world, 12)
    assert [len(serve.puts) for serve in world.serves.values()] == puts
    assert [each for each in world.kube.writes[writes:] if each.kind != "ConfigMap"] == []


async def test_after_a_restart_nobody_is_given_what_others_still_have(world: World) -> None:
    limit(world, maxWorkers=4)
    first = serve(world, "x", replicas=3, servingCluster=own_cluster(world, "team-a"))
    second = serve(world, "y", "team-b")
    await world.settle()
    world.start_operator()
    serve(world, "y", "team-b", replicas=4)
    for _ in range(5):  # Its loop has not looked yet.
        await world.look_at_pool()
        await world.cluster_loop.reconcile(Key("models", "shared"))
        world.step()
    assert target(world, second) == 1
    await world.settle()
    assert (target(world, first), target(world, second)) == (3, 1)


async def test_what_a_deleted_service_leaves_is_given_to_who_waits(world: World) -> None:
    limit(world, maxWorkers=2)
    serve(world, "x", replicas=2)
    await world.settle()
    late = serve(world, "y", "team-b", replicas=2)
    await turns(world, 5, most=2)
    world.kube.remove(MODEL_SERVICE, "x", namespace="team-a")
    await turns(world, 25, most=2)
    assert target(world, late) == 2


async def test_services_at_zero_keep_no_worker_from_others_and_get_one_when_asked(world: World) -> None:
    limit(world, maxWorkers=4)
    asleep = serve(world, "x", "team-b", autoscaling={"minReplicas": 0, "maxReplicas": 2})
    await world.settle()
    grow(world, asleep, 0)
    await turns(world, 3)
    busy = serve(world, "y", autoscaling={"minReplicas": 1, "maxReplicas": 8})
    for _ in range(12):
        grow(world, busy, 8)
        await turns(world, 1, most=4)
    assert (target(world, busy), target(world, asleep)) == (4, 0)
    for _ in range(12):
        grow(world, busy, 8)
        grow(world, asleep, 1)
        await world.turn()
    assert (target(world, busy), target(world, asleep)) == (2, 1)


async def test_a_change_of_an_autoscaled_service_leaves_it_the_replicas_that_it_has(world: World) -> None:
    """Ray sets a deployment back to initial_replicas at any change of its config."""
    key = serve(world, "x", autoscaling={"minReplicas": 1, "maxReplicas": 4})
    await world.settle()
    grow(world, key, 3)
    await turns(world, 3)
    serve(world, "x", autoscaling={"minReplicas": 1, "maxReplicas": 6})
    await turns(world, 3)
    assert target(world, key) == 3


async def test_an_update_that_the_limits_do_not_let_in_waits_with_numbers_until_they_do(world: World) -> None:
    limit(world, maxWorkers=3)
    key = serve(world, "x", replicas=2)
    await world.settle()
    (old,) = world.applications
    serve(world, "x", replicas=2, resources={"memory": "4Gi"})
    await turns(world, 12, most=3)
    assert list(world.applications) == [old]
    assert world.conditions(key=key)["Available"] == ("True", "Serving")
    assert world.conditions(key=key)["Progressing"] == ("True", "NoHeadroom")
    assert "spec.limits of AcceleratorPool cpu leave 1 more" in world.message("Progressing", key=key)
    limit(world, maxWorkers=4)
    await turns(world, 40, most=4)
    (new,) = world.applications
    assert new != old
    assert world.conditions(key=key)["Ready"] == ("True", "Serving")


async def test_an_update_may_replace_what_the_limits_do_not_let_stand_beside_it(world: World) -> None:
    limit(world, maxWorkersPerNamespace=2)
    replacing = {"onNoHeadroom": "Replace"}
    key = serve(world, "x", replicas=2, rollout=replacing)
    await world.settle()
    (old,) = world.applications
    serve(world, "x", uri="pvc://models/newer", replicas=2, rollout=replacing)
    await turns(world, 60, most=2)
    (new,) = world.applications
    assert new != old
    assert target(world, key) == 2
    assert world.conditions(key=key)["Ready"] == ("True", "Serving")


async def test_a_share_that_another_cluster_frees_is_taken_up_at_once(world: World) -> None:
    limit(world, maxWorkers=2)
    serve(world, "x", replicas=2)
    await world.settle()
    serve(world, "y", "team-b", replicas=1, servingCluster=own_cluster(world, "team-b"))
    await world.settle()
    serve(world, "x", replicas=1)
    with world.app.wakeups.listening(SERVING_CLUSTER, Key("team-b", "own")):
        await world.cluster_loop.reconcile(Key("models", "shared"))
        world.step()
        await world.cluster_loop.reconcile(Key("models", "shared"))
        assert world.app.wakeups.is_woken(SERVING_CLUSTER, Key("team-b", "own"))
