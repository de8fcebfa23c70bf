"""A download that takes its time is told, and seldom written."""

from datetime import timedelta

from tests.unit.reconcile.world import SERVICE, World

from modelyard_operator.kube.client import MODEL_SERVICE, POD
from modelyard_operator.observed.downloads import Download

URI = "hf://acme/tiny"
GI = 2**30


def progress(world: World) -> str:
    conditions = world.kube.find(MODEL_SERVICE, SERVICE.name, namespace=SERVICE.namespace)["status"]["conditions"]  # type: ignore[index]
    return str(next(each["message"] for each in conditions if each["type"] == "Progressing"))


def status_writes(world: World) -> int:
    return sum(request.verb == "apply_status" and request.kind == "ModelService" for request in world.kube.requests)


async def downloading(world: World, uri: str = URI) -> None:
    """Until the replicas of a service are starting."""
    world.loading = {uri}
    world.apply_service(uri)
    for _ in range(12):
        await world.turn()


async def test_the_status_says_how_far_it_is_and_how_fast(world: World) -> None:
    world.download_seen = Download(4 * GI, GI)
    await downloading(world)
    assert "replicas download the model, 1Gi of 4Gi; 0 of 1 replicas are up." in progress(world)
    world.download_seen = Download(4 * GI, 3 * GI)
    world.now += timedelta(seconds=15)
    await world.turn()
    assert "3Gi of 4Gi, " in progress(world)
    assert "Mi/s" in progress(world)
    world.loading = set()
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_it_is_asked_and_written_seldom(world: World) -> None:
    world.download_seen = Download(4 * GI, 0)
    await downloading(world)
    asked, written = len(world.asked_for_downloads), status_writes(world)
    for turn in range(30):
        world.download_seen = Download(4 * GI, turn * 2**20)
        await world.turn()
    assert 1 <= len(world.asked_for_downloads) - asked <= 2, "thirty seconds"
    assert 1 <= status_writes(world) - written <= 2


async def test_what_is_there_loads(world: World) -> None:
    world.download_seen = Download(4 * GI, 4 * GI)
    await downloading(world)
    assert "replicas load the model; 0 of 1 replicas are up." in progress(world)


async def test_nobody_is_asked_at_rest_or_of_a_claim(world: World) -> None:
    world.apply_service(URI)
    await world.settle()
    world.asked_for_downloads.clear()
    for _ in range(20):
        await world.turn()
    assert world.asked_for_downloads == []
    await downloading(world, "pvc://models/other")
    assert world.asked_for_downloads == []


async def test_nobody_is_asked_for_more_replicas_of_what_serves(world: World) -> None:
    world.apply_service(URI)
    await world.settle()
    world.asked_for_downloads.clear()
    world.loading = {URI}
    world.apply_service(URI, replicas=2)
    for _ in range(5):
        await world.turn()
    assert world.asked_for_downloads == []


async def test_nobody_is_asked_while_it_is_to_prove_itself(world: World) -> None:
    world.apply_service(URI)
    for _ in range(20):
        world.proof_failures = {f"{pod['status']['podIP']}:8000": "NaN" for pod in world.kube.all(POD)}
        await world.turn()
    assert world.conditions()["Degraded"] == ("True", "ProofFailed")
    world.asked_for_downloads.clear()
    world.now += timedelta(minutes=1)
    for _ in range(5):
        await world.turn()
    assert world.asked_for_downloads == []


async def test_the_pods_of_its_replicas_are_asked_for_its_revision(world: World) -> None:
    await downloading(world)
    [revision] = world.revisions
    address, service, asked = world.asked_for_downloads[-1]
    assert (service, f"{SERVICE.name}-{asked}") == ("team-a/smollm2", revision)
    assert address.endswith(":8080")
    assert address.removesuffix(":8080") in world.serve.addresses(next(iter(world.applications)))
