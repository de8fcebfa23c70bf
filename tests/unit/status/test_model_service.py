"""The status of a service in each situation: conditions with their reasons, and words to act on."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.desired.samples import resolved, service, service_manifest

from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.model_service import ModelService, ModelServiceStatus
from modelyard_operator.desired.resolution import Rejection, Resolved
from modelyard_operator.desired.revision import Phase, Revision, new_revision
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import parse_ray_cluster
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.observed.view import ClusterView, RayClusterView
from modelyard_operator.status.model_service import ServiceFacts, service_status

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD, NEW = resolved(), resolved(service("pvc://models/new"))
RAY = OLD.ray_cluster
HEAD = parse_ray_cluster({"metadata": {"name": RAY}, "spec": {}})
ACTIVE = new_revision(OLD, 1).at(Phase.ACTIVE)
CANDIDATE = new_revision(NEW, 2)
FIRST = new_revision(OLD, 1)
MARKED = "modelyard-reason=ModelNotFound: There is no folder /models/models/new."
HEAD_GONE = Failure(Reason.HEAD_GONE, "The head is gone.")
UNREACHABLE = Failure(Reason.SERVE_UNREACHABLE, "No answer from the head.")
ABSENT = Failure(Reason.KUBERAY_ABSENT, "KubeRay is not installed. Install KubeRay.")
KILLED = Failure(Reason.OUT_OF_MEMORY, "Worker w-1 was killed for its memory.")
ZERO = {"minReplicas": 0, "maxReplicas": 2}


def app(
    of: Revision, status: str = "RUNNING", running: int = 1, target: int = 1, message: str = ""
) -> ApplicationFacts:
    return ApplicationFacts(of.application, status, message, target, running)


def worker(of: Revision, **facts: Any) -> PodFacts:
    return PodFacts(name="w-1", group=of.group["groupName"], is_head=False, **{"ready": False, **facts})


def seen(*apps: ApplicationFacts, pods: tuple[PodFacts, ...] = ()) -> ClusterView:
    return ClusterView(RAY, {RAY: RayClusterView(HEAD, pods, {each.name: each for each in apps})})


def lost(trouble: Failure) -> ClusterView:
    return ClusterView(RAY, {RAY: RayClusterView(HEAD, (), None, trouble)}, trouble)


NO_HEAD_YET = ClusterView(RAY, {RAY: RayClusterView(HEAD, (), None)})
REJECTED = Rejection(Reason.NO_SHAPE_FITS, "No worker shape fits. Ask for less.")


@dataclass(frozen=True)
class Case:
    """A situation and the reasons of Available, Progressing, Degraded and Ready; `+` and `-` are the status."""

    told: str
    expected: str
    revisions: tuple[Revision, ...] = ()
    view: ClusterView | None = None
    routed: str | None = ""
    spec: dict[str, Any] = field(default_factory=dict)
    resolution: Resolved | Rejection = OLD
    was_available: bool = False
    proof_failure: str | None = None
    words: str = ""


CASES = [
    Case("fresh, nothing is known yet", "-NotServing +WaitingForCluster -Healthy -WaitingForCluster", (FIRST,)),
    Case("the head comes up", "-NotServing +WaitingForCluster -Healthy -WaitingForCluster", (FIRST,), NO_HEAD_YET),
    Case("no worker yet", "-NotServing +WaitingForWorker -Healthy -WaitingForWorker", (FIRST,),
         seen(app(FIRST, "DEPLOYING", 0))),
    Case("a worker has no node", "-NotServing +WaitingForWorker +NoNodeFits -NoNodeFits", (FIRST,),
         seen(app(FIRST, "DEPLOYING", 0), pods=(worker(FIRST, waiting=Reason.WAITING_FOR_WORKER,
              trouble=Failure(Reason.NO_NODE_FITS, "0/1 nodes are available.")),)), words="0/1 nodes"),
    Case("the image is pulled", "-NotServing +PullingImage -Healthy -PullingImage", (FIRST,),
         seen(app(FIRST, "DEPLOYING", 0), pods=(worker(FIRST, waiting=Reason.PULLING_IMAGE),))),
    Case("the model loads", "-NotServing +LoadingModel -Healthy -LoadingModel", (FIRST,),
         seen(app(FIRST, "DEPLOYING", 0), pods=(worker(FIRST, ready=True),))),
    Case("its former run still finishes requests", "-NotServing +Draining -Healthy -Draining", (FIRST,),
         seen(app(FIRST, "DELETING", 1), pods=(worker(FIRST, ready=True),)), words="former run"),
    Case("the first replica of two is up", "-NotServing +LoadingModel -Healthy -LoadingModel", (FIRST,),
         seen(app(FIRST, "DEPLOYING", 1, 2), pods=(worker(FIRST, ready=True),)), words="1 of 2"),
    Case("it proves itself", "-NotServing +Proving -Healthy -Proving", (FIRST,), seen(app(FIRST))),
    Case("its proof fails", "-NotServing +Proving +ProofFailed -ProofFailed", (FIRST,), seen(app(FIRST)),
         proof_failure="NaN", words="NaN"),
    Case("the gateways switch to the first", "-SwitchingTraffic +SwitchingTraffic -Healthy -SwitchingTraffic",
         (ACTIVE,), seen(app(ACTIVE))),
    Case("it serves", "+Serving -Complete -Healthy +Serving", (ACTIVE,), seen(app(ACTIVE)), ACTIVE.name),
    Case("it serves with two of three", "+Serving +Scaling -Healthy +Serving", (ACTIVE,),
         seen(app(ACTIVE, running=2, target=3)), ACTIVE.name, words="2 of 3"),
    Case("it sleeps at zero", "+ScaledToZero -Complete -Healthy +ScaledToZero", (ACTIVE,),
         seen(app(ACTIVE, running=0, target=0)), ACTIVE.name, {"autoscaling": ZERO}, words="next request"),
    Case("its only replica died", "-NotServing +Scaling -Healthy -Scaling", (ACTIVE,),
         seen(app(ACTIVE, "UPDATING", 0, 1)), ACTIVE.name),
    Case("replicas are unhealthy", "+Serving -Complete +ReplicasUnhealthy +Serving", (ACTIVE,),
         seen(app(ACTIVE, "UNHEALTHY", 1, 1, "health check failed")), ACTIVE.name),
    Case("suspended", "-Suspended -Complete -Healthy -Suspended", (ACTIVE.at(Phase.STOPPED),), seen(), "",
         {"suspend": True}, words="Set it to false"),
    Case("at replicas 0", "-Stopped -Complete -Healthy -Stopped", (ACTIVE.at(Phase.STOPPED),), seen(), "",
         {"replicas": 0}, words="Scale it up"),
    Case("a new revision loads beside a good one", "+Serving +LoadingModel -Healthy +Serving", (ACTIVE, CANDIDATE),
         seen(app(ACTIVE), app(CANDIDATE, "DEPLOYING", 0), pods=(worker(ACTIVE, ready=True),)), ACTIVE.name),
    Case("a bad new revision beside a good one", "+Serving -Failed +ModelNotFound -ModelNotFound", (ACTIVE, CANDIDATE),
         seen(app(ACTIVE), app(CANDIDATE, "DEPLOY_FAILED", 0, 1, MARKED)), ACTIVE.name,
         words="There is no folder /models/models/new."),
    Case("the old revision drains", "+Serving +Draining -Healthy +Serving",
         (ACTIVE, new_revision(NEW, 0).at(Phase.ACTIVE).at(Phase.DRAINING)), seen(app(ACTIVE)), ACTIVE.name),
    Case("a refused spec, nothing runs", "-NotServing -Complete -Healthy -NoShapeFits", (), seen(),
         resolution=REJECTED, words="Ask for less"),
    Case("a refused spec, the old one serves", "+Serving -Complete -Healthy -NoShapeFits", (ACTIVE,), seen(app(ACTIVE)),
         ACTIVE.name, resolution=REJECTED),
    Case("the head is gone", "-NotServing -Complete +HeadGone -HeadGone", (ACTIVE,), lost(HEAD_GONE), ACTIVE.name,
         was_available=True),
    Case("KubeRay is absent", "-NotServing +WaitingForCluster +KubeRayAbsent -KubeRayAbsent", (FIRST,),
         ClusterView(RAY, {}, ABSENT), words="Install KubeRay"),
    Case("Serve is silent and it served before", "+Serving -Complete +ServeUnreachable +Serving", (ACTIVE,),
         lost(UNREACHABLE), ACTIVE.name, was_available=True),
    Case("Serve is silent and it did not serve", "-NotServing -Complete +ServeUnreachable -ServeUnreachable", (ACTIVE,),
         lost(UNREACHABLE), ACTIVE.name),
    Case("an operator has just started", "+Serving -Complete -Healthy +Serving", (ACTIVE,), seen(app(ACTIVE)), None,
         was_available=True),
]  # fmt: skip


def told(case: Case) -> ModelServiceStatus:
    subject = service(**case.spec)
    if case.was_available:
        subject = _with_status(subject, Case("", "", (ACTIVE,), seen(app(ACTIVE)), ACTIVE.name))
    facts = ServiceFacts(
        resolution=case.resolution, revisions=case.revisions, view=case.view, routed=case.routed,
        url="http://gateway/team-a/smollm2", proof_failure=case.proof_failure,
    )  # fmt: skip
    return service_status(subject, facts, NOW)


def _with_status(subject: ModelService, before: Case) -> ModelService:
    return subject.model_copy(update={"status": told(before)})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.told)
def test_the_conditions_tell(case: Case) -> None:
    conditions = told(case).conditions
    sign = {"True": "+", "False": "-"}
    by_type = {c.type.value: f"{sign[c.status]}{c.reason}" for c in conditions}
    kinds = ("Available", "Progressing", "Degraded", "Ready")
    assert " ".join(by_type[kind] for kind in kinds) == case.expected
    accepted = "-NoShapeFits" if case.resolution is REJECTED else "+Accepted"
    assert by_type["Accepted"] == accepted
    assert any(case.words in c.message for c in conditions)
    ready = next(c for c in conditions if c.type.value == "Ready")
    assert ready.message, "the summary always says something"
    assert all(
        c.observed_generation == 1 and c.last_transition_time == NOW for c in conditions if not case.was_available
    )


def test_a_bad_candidate_is_told_together_with_what_goes_on_serving() -> None:
    case = next(case for case in CASES if case.told == "a bad new revision beside a good one")
    status = told(case)
    degraded = next(c for c in status.conditions if c.type.value == "Degraded")
    assert degraded.message.endswith("The active revision goes on serving.")
    assert [(r.name, r.phase, r.traffic) for r in status.revisions] == [
        (CANDIDATE.name, "Candidate", 0),
        (ACTIVE.name, "Active", 100),
    ]


def test_times_change_with_the_status_and_not_with_the_reason() -> None:
    before = told(Case("", "", (FIRST,), NO_HEAD_YET))
    subject = service().model_copy(update={"status": before})
    later = NOW + timedelta(minutes=1)
    facts = ServiceFacts(OLD, (FIRST,), seen(app(FIRST)), "", "http://gateway")
    proving = service_status(subject, facts, later)
    assert {c.last_transition_time for c in proving.conditions} == {NOW}
    subject = service().model_copy(update={"status": proving})
    serving = service_status(
        subject, replace(facts, revisions=(ACTIVE,), view=seen(app(ACTIVE)), routed=ACTIVE.name), later
    )
    times = {c.type.value: c.last_transition_time for c in serving.conditions}
    assert times == {"Accepted": NOW, "Available": later, "Progressing": later, "Degraded": NOW, "Ready": later}
    assert serving.last_change == later


def test_a_status_is_the_same_after_it_was_written_and_read_again() -> None:
    """What a restarted operator compares with."""
    for case in CASES:
        status = told(case)
        written = {**service_manifest(), "status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
        assert ModelService.model_validate(written).status == status, case.told


def test_it_says_where_and_how_many() -> None:
    status = told(Case("", "", (ACTIVE,), seen(app(ACTIVE, running=2, target=3)), ACTIVE.name, {"replicas": 3}))
    assert (status.replicas, status.desired_replicas, status.active_revision) == (2, 3, ACTIVE.name)
    assert (status.serving_cluster, status.worker_shape) == ("models/shared", "cpu/small")
    assert status.selector == "modelyard.dev/service=smollm2"


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        (app(ACTIVE, "UPDATING", 0, 1, "The replica died."), ("True", "OutOfMemory")),
        (app(ACTIVE, "UPDATING", 1, 2), ("False", "Healthy")),
        (app(ACTIVE, "UPDATING", 0, 1), ("False", "Healthy")),
    ],
    ids=["Serve complains", "it only grows", "it only starts"],
)
def test_a_death_in_a_group_is_told_where_serve_complains(
    application: ApplicationFacts, expected: tuple[str, str]
) -> None:
    """Services share a group: the neighbour's death is not this one's."""
    deaths = {ACTIVE.group["groupName"]: KILLED}
    view = ClusterView(RAY, {RAY: RayClusterView(HEAD, (), {application.name: application}, deaths=deaths)})
    status = told(Case("", "", (ACTIVE,), view, ACTIVE.name))
    (degraded,) = (c for c in status.conditions if c.type.value == "Degraded")
    assert (degraded.status, degraded.reason) == expected
    assert (KILLED.message in degraded.message) == (expected[0] == "True")
