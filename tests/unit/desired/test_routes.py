"""What every gateway applies."""

from tests.unit.desired.samples import revision, service

from modelyard_operator.desired.revision import Phase, Revision
from modelyard_operator.desired.routes import RayPod, RoutedService, route_document, routed_revisions

HEAD, WORKER = RayPod("a-head", "10.0.0.1", is_head=True), RayPod("b-worker", "10.0.0.2", is_head=False)


def routed(*revisions: Revision, refusal: tuple[str, str] | None = None) -> RoutedService:
    return RoutedService("team-a", "smollm2", revisions, refusal)


def test_requests_go_to_the_newest_active_revision_workers_first() -> None:
    old, new = revision(number=1), revision(number=2, of=service("pvc://models/new", requestTimeout="1500ms"))
    document = route_document([routed(old, new)], {("models", new.ray_cluster): [HEAD, WORKER]})
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
    before = route_document([routed(mine)], {("models", mine.ray_cluster): [HEAD, WORKER]})
    others = [revision(phase, of=service("pvc://models/new")) for phase in set(Phase) - {Phase.ACTIVE}]
    for found in ([], [revision(Phase.CANDIDATE)], others):
        after = route_document([routed(*found)], {("models", mine.ray_cluster): [HEAD, WORKER]}, before)
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


def test_a_backend_without_pods_is_there_all_the_same() -> None:
    document = route_document([routed(revision())], {})
    document.check()
    assert document.backends[0].servers == ()


def test_the_order_of_what_is_seen_does_not_matter() -> None:
    one, other = routed(revision()), RoutedService("team-b", "x", (), None)
    pods = {("models", revision().ray_cluster): [HEAD, WORKER]}
    turned = {key: found[::-1] for key, found in pods.items()}
    assert route_document([one, other], pods).version == route_document([other, one], turned).version
