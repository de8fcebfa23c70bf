"""The steps to the end of a rollout, with the time that each took the last time."""

from dataclasses import dataclass

from modelyard_operator.api.model_service import ColdStart, PlanStep
from modelyard_operator.desired.revision import Phase, Revision
from modelyard_operator.desired.routes import active_revision
from modelyard_operator.observed.view import ClusterView

_SWITCH_S = 6.0
"""The gateways take a new route within a second, and what they sent before has arrived five seconds later."""
_DRAINING = (Phase.DRAINING, Phase.RETIRED)


@dataclass(frozen=True)
class PlanFacts:
    """All that a plan depends on."""

    revisions: tuple[Revision, ...]
    view: ClusterView | None
    routed: str | None
    waits: bool
    """Whether what is wanted is not begun, for lack of room."""
    replicas: int
    """How many the service is to have."""
    last: ColdStart | None
    """The last start."""


def plan(facts: PlanFacts) -> tuple[PlanStep, ...]:
    """The steps that are left; none where nothing moves."""
    active = active_revision(facts.revisions)
    yielding = _of_phase(facts, Phase.YIELDING)
    candidate = _of_phase(facts, Phase.CANDIDATE)
    steps = [PlanStep(step="wait for room")] if facts.waits else []
    if yielding is not None:
        steps.append(PlanStep(step="stop the requests at the gateways", seconds=_SWITCH_S))
    if candidate is not None or facts.waits or yielding is not None:
        for old in (yielding, _of_phase(facts, Phase.REPLACED)):
            if old is not None and old is not candidate and not _is_gone(facts, old):
                steps.append(_drain(old))
        steps += _start(facts, candidate)
        steps.append(PlanStep(step="switch the gateways", seconds=_SWITCH_S))
        steps += [_drain(active)] if active is not None else []
        if candidate is not None and candidate.held_to is not None and candidate.held_to < facts.replicas:
            steps.append(PlanStep(step=f"grow from {candidate.held_to} to {facts.replicas} replicas"))
        return tuple(steps)
    if active is not None and facts.routed != active.name:
        steps.append(PlanStep(step="switch the gateways", seconds=_SWITCH_S))
    return (*steps, *(_drain(old) for old in facts.revisions if old.phase in _DRAINING))


def _of_phase(facts: PlanFacts, phase: Phase) -> Revision | None:
    return next((r for r in facts.revisions if r.phase is phase), None)


def _is_gone(facts: PlanFacts, revision: Revision) -> bool:
    return facts.view is not None and facts.view.is_gone(revision.ray_cluster, revision.application)


def _drain(old: Revision) -> PlanStep:
    return PlanStep(step=f"revision {old.name} finishes its requests", at_most=old.request_timeout_s)


def _start(facts: PlanFacts, candidate: Revision | None) -> list[PlanStep]:
    """Workers, model and proof, as far as they are still to come."""
    last = facts.last
    replicas = facts.replicas
    if candidate is not None:
        replicas = min(replicas, candidate.held_to or replicas)
        application = facts.view.application(candidate.ray_cluster, candidate.application) if facts.view else None
        if application is not None and 0 < application.target <= application.running:
            return [_timed("prove it by an inference", last, "proof")]
    # What takes the place of another takes its workers too.
    idle = _idle(facts, candidate) if candidate is not None else 0 if facts.waits else replicas
    lacking = max(0, replicas - idle)
    noun = "worker" if lacking == 1 else "workers"
    make = (
        [_timed(f"make {lacking} {noun}", last, "provisioning", "scheduling", "image", "ray_join")] if lacking else []
    )
    return [*make, _timed("load the model", last, "download", "imports", "load", "warmup"),
            _timed("prove it by an inference", last, "proof")]  # fmt: skip


def _idle(facts: PlanFacts, candidate: Revision) -> int:
    """Workers of the candidate's group that are ready and run nothing else."""
    cluster = facts.view.ray_clusters.get(candidate.ray_cluster) if facts.view else None
    if cluster is None:
        return 0
    others = [f for name, f in (cluster.applications or {}).items() if name != candidate.application]
    taken = {address for other in others for address in other.nodes}
    group = cluster.group_pods(candidate.group["groupName"])
    return sum(pod.ready and pod.address not in taken for pod in group)


def _timed(step: str, last: ColdStart | None, *phases: str) -> PlanStep:
    spent = [getattr(last, phase) for phase in phases] if last is not None else []
    known = [seconds for seconds in spent if seconds is not None]
    return PlanStep(step=step, seconds=round(sum(known), 1) if known else None)
