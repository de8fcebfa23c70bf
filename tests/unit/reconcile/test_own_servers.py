"""The route document names the workers with a replica of each service's routed revision, as far as that is known."""

import pytest
from tests.unit.fakes.kube import Write
from tests.unit.reconcile.world import CLUSTER, GATEWAYS, SERVICE, World

from modelyard_gateway.routes import CONFIG_MAP, SCHEMA
from modelyard_operator.kube.client import MODEL_SERVICE, POD
from modelyard_operator.reconcile.routes import ROUTES

PUBLISHED = Write("apply", "ConfigMap", "modelyard", CONFIG_MAP)


async def turns(world: World, count: int) -> None:
    for _ in range(count):
        await world.turn()


def own(world: World, name: str = "smollm2") -> list[str]:
    """Addresses of the workers that a service's requests go to first."""
    document = world.document
    (route,) = (route for route in document.routes if route.path == f"/team-a/{name}")
    addresses = {server.name: server.address for backend in document.backends for server in backend.servers}
    return sorted(addresses[server] for server in route.servers)


def replicas(world: World, name: str = "smollm2") -> list[str]:
    (application,) = (each for each in world.applications if each.startswith(f"team-a.{name}."))
    return sorted(world.serve.addresses(application))


async def test_each_service_has_its_own_and_follows_its_replicas(world: World) -> None:
    world.apply_service(replicas=2)
    world.apply_service("pvc://models/other", name="other")
    await world.settle()
    assert own(world) == replicas(world)
    assert own(world, "other") == replicas(world, "other")
    assert not set(own(world)) & set(own(world, "other"))
    world.apply_service(replicas=3)
    await world.settle()
    assert own(world) == replicas(world)
    assert len(own(world)) == 3
    world.apply_service("pvc://models/newer", replicas=3)
    await world.settle()
    assert own(world) == replicas(world)


async def test_a_service_that_rests_at_zero_replicas_has_none(world: World) -> None:
    world.apply_service("pvc://models/other", name="other")
    world.apply_service(autoscaling={"minReplicas": 0, "maxReplicas": 2})
    await world.settle()
    (application,) = (each for each in world.applications if each.startswith("team-a.smollm2."))
    for wanted in (1, 0, 2):
        world.serve.replicas[application] = wanted
        await world.settle()
        assert own(world) == replicas(world)
        assert len(own(world)) == wanted
        assert own(world, "other") == replicas(world, "other")


@pytest.mark.parametrize("restarted", [False, True], ids=["known", "after a restart"])
async def test_while_serve_cannot_be_asked_those_that_still_exist_stay(world: World, *, restarted: bool) -> None:
    world.apply_service(replicas=2)
    await world.settle()
    before, (gone, left) = world.document, own(world)
    world.serve.reachable = False
    if restarted:
        world.start_operator()
    await turns(world, 3)
    assert world.document == before
    (pod,) = (pod for pod in world.kube.all(POD) if pod["status"]["podIP"] == gone)
    world.kube.remove(POD, pod["metadata"]["name"], namespace=pod["metadata"]["namespace"])
    await world.routes.reconcile(ROUTES[1])
    assert own(world) == [left]


async def test_each_change_is_published_once_and_moves_no_acknowledgement(world: World) -> None:
    world.apply_service(replicas=2)
    await world.settle()
    acknowledged = world.app.routed[SERVICE]
    world.deaf = {GATEWAYS[0]}  # It still has the list of before: the revision is what counts.
    del world.kube.writes[:]
    documents = {world.document.version}
    world.apply_service(replicas=4)
    for _ in range(20):
        await world.turn()
        documents.add(world.document.version)
        assert world.app.routed[SERVICE] == acknowledged
    assert own(world) == replicas(world)
    assert len(own(world)) == 4
    published = [write for write in world.kube.writes if write == PUBLISHED]
    assert len(published) == len(documents) - 1 > 0


async def test_another_list_wakes_the_publisher(world: World) -> None:
    """Also where it leads to the same workers in all: the replicas of two services change places."""
    world.apply_service()
    world.apply_service("pvc://models/other", name="other")
    await world.settle()
    mine, theirs = replicas(world), replicas(world, "other")
    with world.app.wakeups.listening(*ROUTES):
        await world.cluster_loop.reconcile(CLUSTER)
        assert not world.app.wakeups.is_woken(*ROUTES)
        world.serve.addresses = lambda name: theirs if ".smollm2." in name else mine  # type: ignore[method-assign]
        await world.cluster_loop.reconcile(CLUSTER)
        assert world.app.wakeups.is_woken(*ROUTES)
    await world.routes.reconcile(ROUTES[1])
    assert (own(world), own(world, "other")) == (theirs, mine)


async def test_while_a_gateway_of_the_first_release_is_there_the_document_is_one_that_it_reads(world: World) -> None:
    world.apply_service()
    await world.settle()
    newest = world.document
    assert newest.schema_version == SCHEMA
    world.add_gateway("10.9.0.3", schema=1)
    await world.settle()
    assert world.document.schema_version == 1
    assert own(world) == []
    assert world.app.leads_to(SERVICE) is not None
    # It finishes its last requests, and still goes by what is published.
    pod = world.kube.find(POD, "gateway-3", namespace="modelyard")
    assert pod is not None
    pod["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.kube.put(pod)
    await turns(world, 3)
    assert world.document.schema_version == 1
    pod["status"]["phase"] = "Succeeded"
    world.kube.put(pod)
    await turns(world, 3)
    assert world.document == newest
    assert world.conditions(MODEL_SERVICE)["Ready"] == ("True", "Serving")


async def asked_for_a_proof(world: World) -> tuple[set[str], set[str]]:
    """Whom the proof of a service asks that comes last of ten, and its own workers."""
    for number in range(9):
        world.apply_service(f"pvc://models/{number}", name=f"neighbour-{number}")
    await world.settle()
    world.proofs.clear()
    world.apply_service(replicas=2)
    await world.settle()
    asked = {address.removesuffix(":8000") for address, prefix in world.proofs if "/smollm2/" in prefix}
    return asked, set(replicas(world))


async def test_a_proof_asks_its_own_workers_the_head_and_a_few_others(world: World) -> None:
    asked, mine = await asked_for_a_proof(world)
    (head,) = (address.removesuffix(":8265") for address in world.serves)
    assert asked > mine | {head}
    assert len(asked - mine - {head}) == 4


async def test_a_proof_asks_every_worker_while_a_gateway_leads_to_all_alike(world: World) -> None:
    world.add_gateway("10.9.0.3", schema=1)
    asked, mine = await asked_for_a_proof(world)
    assert len(asked) == 9 + len(mine) + 1
