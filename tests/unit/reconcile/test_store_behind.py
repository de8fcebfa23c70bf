"""What the operator has seen may be behind: nothing is taken away by it, and complete LISTs put it right."""

from tests.unit.reconcile.test_ray_clusters import edit
from tests.unit.reconcile.world import CLUSTER, SERVICE, World

from modelyard_operator.kube.client import (
    CONTROLLER_REVISION,
    MODEL_SERVICE,
    RAY_CLUSTER,
    SERVING_CLUSTER,
    Kind,
    Manifest,
)
from modelyard_operator.reconcile.watched import CHILDREN, MANAGED


async def serving(world: World) -> World:
    """Two services; the second idles at zero, with a worker group and no worker."""
    world.apply_service()
    world.apply_service(name="idle", resources={"memory": "4Gi"}, autoscaling={"minReplicas": 0, "maxReplicas": 2})
    await world.settle()
    (idle,) = [name for name in world.applications if ".idle." in name]
    world.serve.configs[idle]["deployments"][0]["autoscaling_config"]["initial_replicas"] = 0
    world.serve.replicas[idle] = 0
    await world.settle()
    return world


def lose(world: World, *kinds: Kind) -> None:
    """The operator knows nothing of these any more, though they stand; no event comes."""
    for kind in kinds:
        for manifest in world.kube.all(kind):
            world.app.store.note_deleted(kind, manifest)


def groups(manifest: Manifest) -> set[str]:
    return {group["groupName"] for group in manifest["spec"]["workerGroupSpecs"]}


async def test_services_and_revisions_that_it_does_not_know_of_go_on(world: World) -> None:
    before = (await serving(world)).state()
    (ray,) = world.kube.all(RAY_CLUSTER)
    assert len(groups(ray)) == 2
    puts, writes = len(world.serve.puts), len(world.kube.writes)
    lose(world, MODEL_SERVICE, CONTROLLER_REVISION)
    for _ in range(5):
        await world.turn()
        lose(world, MODEL_SERVICE, CONTROLLER_REVISION)
    assert [each for each in world.kube.writes[writes:] if each.verb != "apply_status"] == []
    assert world.serve.puts[puts:] == []
    assert world.kube.all(RAY_CLUSTER)[0]["spec"] == ray["spec"]
    await world.settle()
    assert world.state() == before


async def test_a_revision_that_it_does_not_know_of_keeps_its_phase(world: World) -> None:
    await serving(world)
    before, writes = world.revisions, len(world.kube.writes)
    lose(world, CONTROLLER_REVISION)
    await world.reconcile(MODEL_SERVICE, SERVICE, world.service_loop.reconcile)
    assert world.revisions == before
    assert world.kube.writes[writes:] == []


async def test_an_old_ray_cluster_stays_while_a_revision_that_it_does_not_know_of_runs_there(world: World) -> None:
    await serving(world)
    (old,) = world.kube.all(RAY_CLUSTER)
    world.deaf = set(world.gateways)  # The gateways never switch, so the old revisions go on.
    edit(world, head={"memory": "8Gi"})
    for _ in range(10):
        await world.turn()
    for serve in world.serves.values():
        serve.states = {}
    lose(world, CONTROLLER_REVISION)
    for _ in range(3):
        await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
        lose(world, CONTROLLER_REVISION)
    assert old["metadata"]["name"] in [each["metadata"]["name"] for each in world.kube.all(RAY_CLUSTER)]


async def test_a_serving_cluster_stays_while_a_service_that_it_does_not_know_of_is_bound(world: World) -> None:
    await serving(world)
    lose(world, MODEL_SERVICE, CONTROLLER_REVISION)
    world.delete(SERVING_CLUSTER, CLUSTER)
    await world.reconcile(SERVING_CLUSTER, CLUSTER, world.cluster_loop.reconcile)
    assert world.kube.find(SERVING_CLUSTER, CLUSTER.name, namespace=CLUSTER.namespace) is not None


async def test_deletions_that_no_event_told_are_found_by_a_complete_list(world: World) -> None:
    await serving(world)
    world.kube.watch = lambda event, manifest: None
    world.kube.remove(MODEL_SERVICE, "idle", namespace=SERVICE.namespace)
    world.step()
    for _ in range(3):
        await world.turn()
    assert len(world.applications) == 2, "nothing told it"
    world.kube.watch = world.watched
    for kind in world.app.store.kinds:
        await world.app.store.complete(kind, world.kube)
    await world.settle()
    assert len(world.applications) == 1
    assert len(world.document.routes) == 1


async def test_what_it_reads_is_never_changed_in_its_hands(world: World) -> None:
    """Objects in the store are shared by all loops."""
    await serving(world)
    world.apply_service("pvc://models/other")
    await world.settle()
    for kind in world.app.store.kinds:
        stands = await world.kube.list(kind, labels=_selector(kind))
        assert world.app.store.select(kind, None, _selector(kind)) == stands


def _selector(kind: Kind) -> str | None:
    return MANAGED if kind in CHILDREN else None
