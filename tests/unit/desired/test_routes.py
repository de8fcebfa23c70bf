"""What every gateway applies."""

import pytest
from tests.unit.desired.samples import revision, service

from modelyard_gateway.routes import MOST_OWN_SERVERS, RouteDocument
from modelyard_operator.desired.revision import Phase, Revision
from modelyard_operator.desired.routes import RayPod, RayPods, RoutedService, route_document, routed_revisions

HEAD, WORKER = RayPod("a-head", "10.0.0.1", is_head=True), RayPod("b-worker", "10.0.0.2", is_head=False)


def routed(*revisions: Revision, refusal: tuple[str, str] | None = None) -> RoutedService:
    return RoutedService("team-a", "smollm2", revisions, refusal)


def test_requests_go_to_the_newest_active_revision_workers_first() -> None:
    old, new = revision(number=1), revision(number=2, of=service("pvc://models/new", requestTimeout="1500ms"))
    document = route_document([routed(old, new)], {("models", new.ray_cluster): RayPods([HEAD, WORKER])})
    document.check()
    (route,), (backend,) = document.routes, document.backends
    assert (route.path, route.prefix, route.timeout_s) == ("/team-a/smollm2", new.prefix, 2)
    assert [(s.name, s.backup) for s in backend.servers] == [("b-worker", False), ("a-head", True)]
    assert routed_revisions(document) == {("team-a", "smollm2"): new.name}


def test_a_service_without_an_active_revision_is_refused() -> None:
    for phase in set(Phase) - {Phase.ACTIVE}:
        document = route_document([routed(revision(phase))], {})
        expected = "Replacing" if phase in (Phase.YIELDING, Phase.REPLACED) else "NotServing"
        assert [refusal.reason for refusal in document.refusals] == [expected]
        assert routed_revisions(document) == {("team-a", "smollm2"): ""}


def test_a_route_stays_while_the_record_of_its_revision_is_lost() -> None:
    mine = revision()
    before = route_document([routed(mine)], {("models", mine.ray_cluster): RayPods([HEAD, WORKER])})
    others = [revision(phase, of=service("pvc://models/new")) for phase in set(Phase) - {Phase.ACTIVE}]
    for found in ([], [revision(Phase.CANDIDATE)], others):
        after = route_document([routed(*found)], {("models", mine.ray_cluster): RayPods([HEAD, WORKER])}, before)
        assert after == before
        after.check()


def test_a_route_goes_when_its_revision_or_its_service_does() -> None:
    before = route_document([routed(revision())], {})
    assert route_document([], {}, before).routes == ()
    assert route_document([routed(refusal=("Suspended", "It is suspended."))], {}, before).routes == ()
    for phase in set(Phase) - {Phase.ACTIVE, Phase.CANDIDATE}:
        assert route_document([routed(revision(phase))], {}, before).routes == ()
    new = revision(of=service("pvc://models/new"))
    assert [route.prefix for route in route_document([routed(new)], {}, before).routes] == [new.prefix]


def test_a_refusal_goes_before_an_active_revision() -> None:
    document = route_document([routed(revision(), refusal=("Suspended", "It is suspended."))], {})
    assert document.routes == ()
    assert document.refusals[0].message == "It is suspended."


OTHER = RayPod("c-worker", "10.0.0.3", is_head=False)
MINE = revision()
THEIRS = {"team-b.x.11112222": frozenset({OTHER.address})}


@pytest.mark.parametrize(
    ("serving", "before", "expected"),
    [
        ({MINE.application: {WORKER.address}, **THEIRS}, (), ["b-worker"]),
        ({MINE.application: {OTHER.address, WORKER.address}}, ("c-worker",), ["b-worker", "c-worker"]),
        ({MINE.application: {HEAD.address, "10.0.0.77"}}, (), []),
        ({MINE.application: set(), **THEIRS}, ("b-worker",), []),
        (THEIRS, ("b-worker",), []),
        (None, ("b-worker", "a-head", "gone"), ["b-worker"]),
        (None, (), []),
    ],
    ids=["one", "two", "the head and one that has gone", "none", "not there", "not known", "never known"],
)
def test_requests_go_first_to_the_workers_with_a_replica_of_the_routed_revision(
    serving: dict[str, set[str]] | None, before: tuple[str, ...], expected: list[str]
) -> None:
    key = "models", MINE.ray_cluster
    known = {name: frozenset(addresses) for name, addresses in serving.items()} if serving is not None else None
    pods = {key: RayPods([HEAD, OTHER, WORKER], known)}
    first = route_document([routed(MINE)], pods)
    standing = first.model_copy(update={"routes": (first.routes[0].model_copy(update={"servers": before}),)})
    for found in ([MINE], []):  # Also while the revision's record is lost.
        (route,) = route_document([routed(*found)], pods, standing).routes
        assert list(route.servers) == expected


def test_servers_of_another_revision_are_none_of_its_own() -> None:
    new = revision(number=2, of=service("pvc://models/new"))
    pods = {("models", MINE.ray_cluster): RayPods([HEAD, WORKER], {MINE.application: frozenset({WORKER.address})})}
    standing = route_document([routed(MINE)], pods)
    assert standing.routes[0].servers == ("b-worker",)
    for known in (pods, {key: RayPods(found.pods) for key, found in pods.items()}):
        assert route_document([routed(MINE, new)], known, standing).routes[0].servers == ()


def test_a_document_of_the_first_schema_has_none() -> None:
    pods = {("models", MINE.ray_cluster): RayPods([HEAD, WORKER], {MINE.application: frozenset({WORKER.address})})}
    newest = route_document([routed(MINE)], pods)
    for found in ([MINE], []):
        old = route_document([routed(*found)], pods, newest, schema=1)
        assert (old.schema_version, old.routes[0].servers) == (1, ())
    assert "servers" not in old.routes[0].model_dump()


def test_no_more_own_servers_than_a_route_may_have() -> None:
    workers = [RayPod(f"w-{n}", f"10.0.1.{n}", is_head=False) for n in range(MOST_OWN_SERVERS + 1)]
    serving = {MINE.application: frozenset(worker.address for worker in workers)}
    document = route_document([routed(MINE)], {("models", MINE.ray_cluster): RayPods(workers, serving)})
    assert len(document.routes[0].servers) == MOST_OWN_SERVERS
    assert RouteDocument.from_json(document.to_json()) == document


def test_a_backend_without_pods_is_there_all_the_same() -> None:
    document = route_document([routed(revision())], {})
    document.check()
    assert document.backends[0].servers == ()


def test_the_order_of_what_is_seen_does_not_matter() -> None:
    one, other = routed(revision()), RoutedService("team-b", "x", (), None)
    pods = {("models", revision().ray_cluster): RayPods([HEAD, WORKER])}
    turned = {key: RayPods(found.pods[::-1]) for key, found in pods.items()}
    assert route_document([one, other], pods).version == route_document([other, one], turned).version
