"""The next steps of a rollout, one sentence each; every order of events is in `test_rollout_machine`."""

from dataclasses import replace
from typing import Any

from tests.unit.desired.samples import PLATFORM, resolved, service

from modelyard_operator.desired.resolution import Resolved
from modelyard_operator.desired.revision import Phase, Revision, new_revision
from modelyard_operator.desired.rollout import Situation, Steps, next_steps
from modelyard_operator.observed.kuberay import parse_ray_cluster
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.observed.view import ClusterView, RayClusterView

A, B, C = (resolved(service(f"pvc://models/{name}")) for name in "abc")
RAY = A.ray_cluster
NEWER = replace(PLATFORM, image="serving:2")


def seen(**status_by_revision: str) -> ClusterView:
    """A view in which applications stand so; `n/m` is running with n of m replicas."""
    applications = {}
    for revision, status in status_by_revision.items():
        running, _, target = status.partition("/")
        state, counts = ("RUNNING", (int(running), int(target))) if target else (status, (0, 1))
        name = f"team-a.smollm2.{revision.removeprefix('r')}"
        applications[name] = ApplicationFacts(name, state, running=counts[0], target=counts[1])
    facts = parse_ray_cluster({"metadata": {"name": RAY}, "spec": {}})
    return ClusterView(RAY, {RAY: RayClusterView(facts, (), applications)})


def steps(*revisions: Revision, wanted: Resolved | None = A, stopped: bool = False, **rest: Any) -> Steps:
    situation: dict[str, Any] = {"view": None, "routed": None} | rest
    return next_steps(Situation(wanted=wanted, stopped=stopped, revisions=revisions, **situation))


def made(of: Resolved, phase: Phase, number: int, *, proved: bool = False) -> Revision:
    made = new_revision(of, number)
    return (made.at(Phase.ACTIVE) if proved else made).at(phase)


def told(done: Steps) -> list[tuple[str, Phase]]:
    return [(change.name, change.phase) for change in done.changes]


def test_a_new_service_gets_a_candidate() -> None:
    assert told(steps()) == [(A.revision, Phase.CANDIDATE)]


def test_nothing_is_done_for_a_spec_that_cannot_be_resolved() -> None:
    assert steps(wanted=None) == Steps()


def test_an_active_revision_that_is_wanted_is_left_alone() -> None:
    assert told(steps(made(A, Phase.ACTIVE, 1), routed=A.revision)) == []


def test_a_candidate_waits_until_all_its_replicas_run() -> None:
    candidate = made(A, Phase.CANDIDATE, 1)
    for status in ("DEPLOYING", "1/2", "0/0", "UNHEALTHY"):
        done = steps(candidate, view=seen(**{f"r{A.revision}": status}), proven={A.revision})
        assert (done.prove, done.changes) == (None, ()), status


def test_a_candidate_that_is_up_is_asked_for_a_proof() -> None:
    candidate = made(A, Phase.CANDIDATE, 1)
    done = steps(candidate, view=seen(**{f"r{A.revision}": "2/2"}))
    assert (done.prove, done.changes) == (candidate, ())


def test_a_proven_candidate_takes_over_and_its_write_comes_first() -> None:
    done = steps(
        made(A, Phase.ACTIVE, 1), made(B, Phase.CANDIDATE, 2),
        wanted=B, view=seen(**{f"r{B.revision}": "1/1"}), proven={B.revision}, routed=A.revision,
    )  # fmt: skip
    assert told(done) == [(B.revision, Phase.ACTIVE), (A.revision, Phase.DRAINING)]


def test_of_two_active_revisions_the_newer_stays() -> None:
    """The operator died between the two writes of a switch."""
    done = steps(made(A, Phase.ACTIVE, 1), made(B, Phase.ACTIVE, 2), wanted=B)
    assert told(done) == [(A.revision, Phase.DRAINING)]


def test_an_old_revision_goes_only_when_every_gateway_leads_elsewhere() -> None:
    old, new = made(A, Phase.DRAINING, 1, proved=True), made(B, Phase.ACTIVE, 2)
    assert told(steps(old, new, wanted=B, routed=None)) == []
    assert told(steps(old, new, wanted=B, routed=A.revision)) == []
    assert told(steps(old, new, wanted=B, routed=B.revision, settled=False)) == []
    assert told(steps(old, new, wanted=B, routed=B.revision)) == [(A.revision, Phase.RETIRED)]


def test_a_record_goes_only_when_its_application_is_seen_to_be_gone() -> None:
    retired, active = made(A, Phase.RETIRED, 1), made(B, Phase.ACTIVE, 2)
    for view in (None, seen(**{f"r{A.revision}": "DELETING"})):
        assert steps(retired, active, wanted=B, view=view, routed=B.revision).forget == ()
    assert steps(retired, active, wanted=B, view=seen(), routed=B.revision).forget == (retired,)


def test_what_is_going_away_is_awaited_before_it_is_made_again() -> None:
    assert told(steps(made(A, Phase.RETIRED, 1), view=seen(**{f"r{A.revision}": "DELETING"}))) == []


def test_a_candidate_that_nobody_wants_any_more_goes_at_once() -> None:
    done = steps(made(A, Phase.ACTIVE, 1), made(B, Phase.CANDIDATE, 2), wanted=C, routed=A.revision)
    assert told(done) == [(B.revision, Phase.RETIRED), (C.revision, Phase.CANDIDATE)]


def test_going_back_calls_the_draining_revision_back() -> None:
    done = steps(made(A, Phase.DRAINING, 1, proved=True), made(B, Phase.ACTIVE, 2), wanted=A)
    assert [(r.name, r.phase, r.number) for r in done.changes] == [(A.revision, Phase.CANDIDATE, 3)]


def test_one_that_was_called_back_and_is_not_wanted_after_all_drains_on() -> None:
    """Some gateways may still lead to it."""
    called_back = made(A, Phase.CANDIDATE, 3, proved=True)
    done = steps(made(B, Phase.ACTIVE, 2), called_back, wanted=C)
    assert (A.revision, Phase.DRAINING) in told(done)


def test_a_new_default_image_does_not_move_what_has_served() -> None:
    newer = resolved(service("pvc://models/a"), platform=NEWER)
    assert newer.revision != A.revision
    for phase in (Phase.ACTIVE, Phase.CANDIDATE):
        assert told(steps(made(A, phase, 1, proved=True), wanted=newer)) == []
    resumed = steps(made(A, Phase.STOPPED, 1, proved=True), wanted=newer)
    assert told(resumed) == [(A.revision, Phase.CANDIDATE)]


def test_a_new_default_image_reaches_what_never_served() -> None:
    newer = resolved(service("pvc://models/a"), platform=NEWER)
    done = steps(made(A, Phase.CANDIDATE, 1), wanted=newer)
    assert told(done) == [(A.revision, Phase.RETIRED), (newer.revision, Phase.CANDIDATE)]


def test_stopping_waits_for_the_gateways_to_refuse() -> None:
    active, candidate = made(A, Phase.ACTIVE, 1), made(B, Phase.CANDIDATE, 2)
    assert told(steps(active, candidate, wanted=B, stopped=True, routed=A.revision)) == [(B.revision, Phase.RETIRED)]
    assert told(steps(active, wanted=B, stopped=True, routed="", settled=False)) == []
    assert told(steps(active, wanted=B, stopped=True, routed="")) == [(A.revision, Phase.STOPPED)]


def test_stopping_again_during_the_resume_keeps_what_served() -> None:
    resuming = made(A, Phase.CANDIDATE, 2, proved=True)
    assert told(steps(resuming, stopped=True, routed="")) == [(A.revision, Phase.STOPPED)]


def test_a_failed_candidate_stays_until_its_retry_is_due() -> None:
    active, failed = made(A, Phase.ACTIVE, 1), made(B, Phase.CANDIDATE, 2)
    view = seen(**{f"r{A.revision}": "1/1", f"r{B.revision}": "DEPLOY_FAILED"})
    waiting = steps(active, failed, wanted=B, view=view, routed=A.revision)
    assert (waiting.failed, waiting.changes) == (failed, ())
    due = steps(active, failed, wanted=B, view=view, routed=A.revision, retry_due=True)
    assert told(due) == [(B.revision, Phase.RETIRED)]


def test_a_fix_of_a_failed_candidate_needs_no_wait() -> None:
    view = seen(**{f"r{B.revision}": "DEPLOY_FAILED"})
    done = steps(made(B, Phase.CANDIDATE, 1), wanted=C, view=view)
    assert told(done) == [(B.revision, Phase.RETIRED), (C.revision, Phase.CANDIDATE)]


def test_a_candidate_with_replicas_that_run_has_not_failed() -> None:
    facts = ApplicationFacts(f"team-a.smollm2.{A.revision}", "DEPLOY_FAILED", running=1, target=2)
    ray = parse_ray_cluster({"metadata": {"name": RAY}, "spec": {}})
    view = ClusterView(RAY, {RAY: RayClusterView(ray, (), {facts.name: facts})})
    assert steps(made(A, Phase.CANDIDATE, 1), view=view).failed is None
