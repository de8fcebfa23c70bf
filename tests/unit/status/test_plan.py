"""The steps that are left of a rollout, with the time that each took the last time."""

from dataclasses import replace

from tests.unit.desired.samples import resolved, service

from modelyard_operator.api.model_service import ColdStart, PlanStep
from modelyard_operator.desired.revision import Phase, Revision, new_revision
from modelyard_operator.observed.kuberay import parse_ray_cluster
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.observed.view import ClusterView, RayClusterView
from modelyard_operator.status.plan import PlanFacts, plan

OLD = new_revision(resolved(service(requestTimeout="10m")), 1).at(Phase.ACTIVE)
NEW = new_revision(resolved(service("pvc://models/new")), 2)
RAY = OLD.ray_cluster
LAST = ColdStart(
    revision="x",
    provisioning=2.0,
    scheduling=0.0,
    image=20.0,
    ray_join=5.0,
    imports=3.0,
    load=1.5,
    warmup=0.5,
    proof=0.2,
)
LOAD, PROVE = PlanStep(step="load the model", seconds=5.0), PlanStep(step="prove it by an inference", seconds=0.2)
SWITCH = PlanStep(step="switch the gateways", seconds=6.0)
DRAIN_OLD = PlanStep(step=f"revision {OLD.name} finishes its requests", at_most=600.0)


def view(*apps: ApplicationFacts, pods: tuple[PodFacts, ...] = ()) -> ClusterView:
    head = parse_ray_cluster({"metadata": {"name": RAY}, "spec": {}})
    return ClusterView(RAY, {RAY: RayClusterView(head, pods, {each.name: each for each in apps})})


def app(of: Revision, running: int = 1, node: str = "10.0.0.1") -> ApplicationFacts:
    status = "RUNNING" if running else "DEPLOYING"
    return ApplicationFacts(of.application, status, "", 1, running, nodes=frozenset({node} if running else ()))


def worker(address: str) -> PodFacts:
    return PodFacts(address, OLD.group["groupName"], is_head=False, ready=True, address=address)


def steps(*revisions: Revision, **facts: object) -> tuple[PlanStep, ...]:
    given = PlanFacts(revisions, view(app(OLD)), OLD.name, waits=False, replicas=1, last=LAST)
    return plan(replace(given, **facts))  # type: ignore[arg-type]


def test_nothing_moves() -> None:
    assert steps(OLD) == ()


def test_a_new_revision_beside_the_old_one() -> None:
    make = PlanStep(step="make 1 worker", seconds=27.0)
    assert steps(OLD, NEW) == (make, LOAD, PROVE, SWITCH, DRAIN_OLD)
    two = steps(OLD, NEW, replicas=2)
    assert two[0] == PlanStep(step="make 2 workers", seconds=27.0)


def test_a_worker_that_stands_idle_need_not_be_made() -> None:
    pods = (worker("10.0.0.1"), worker("10.0.0.2"))
    assert steps(OLD, NEW, view=view(app(OLD), pods=pods))[0] == LOAD


def test_what_is_done_is_not_left() -> None:
    assert steps(OLD, NEW, view=view(app(OLD), app(NEW))) == (PROVE, SWITCH, DRAIN_OLD)
    drains = OLD.at(Phase.DRAINING)
    switched = NEW.at(Phase.ACTIVE)
    assert steps(drains, switched) == (SWITCH, DRAIN_OLD)
    assert steps(drains, switched, routed=NEW.name) == (DRAIN_OLD,)


def test_the_first_start_has_no_times() -> None:
    assert [step.seconds for step in steps(NEW, last=None)] == [None, None, None, 6.0]


def test_what_waits_for_room_says_so_first() -> None:
    make = PlanStep(step="make 1 worker", seconds=27.0)
    assert steps(OLD, waits=True) == (PlanStep(step="wait for room"), make, LOAD, PROVE, SWITCH, DRAIN_OLD)


def test_one_after_the_other() -> None:
    refuse = PlanStep(step="stop the requests at the gateways", seconds=6.0)
    assert steps(OLD.at(Phase.YIELDING)) == (refuse, DRAIN_OLD, LOAD, PROVE, SWITCH)
    replaced = OLD.at(Phase.REPLACED)
    assert steps(replaced, NEW)[0] == DRAIN_OLD
    assert DRAIN_OLD not in steps(replaced, NEW, view=view())


def test_part_after_part() -> None:
    grown = steps(replace(OLD, held_to=2), replace(NEW, held_to=1), replicas=3)
    assert grown[0].step == "make 1 worker"
    assert grown[-1] == PlanStep(step="grow from 1 to 3 replicas")
