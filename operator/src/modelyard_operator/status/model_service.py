"""The status of a ModelService: is it up, where, which revision, how many; and if not, why and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from modelyard_operator.api.conditions import Condition, ConditionType, Reason
from modelyard_operator.api.model_service import ColdStart, ModelService, ModelServiceStatus, PlanStep, RevisionStatus
from modelyard_operator.desired.names import SERVICE_LABEL
from modelyard_operator.desired.resolution import Rejection, Resolved
from modelyard_operator.desired.revision import RUNNING_PHASES, Phase, Revision
from modelyard_operator.desired.routes import active_revision
from modelyard_operator.desired.scaling import fixed_replicas, is_stopped, surge_replicas
from modelyard_operator.observed.downloads import Download
from modelyard_operator.observed.failures import Failure, classify
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.observed.view import ClusterView, RayClusterView
from modelyard_operator.status.conditions import condition, stamped
from modelyard_operator.status.plan import PlanFacts, plan
from modelyard_operator.status.pool_use import PoolShare, pool_words

A, B, P, D, R = (
    ConditionType.ACCEPTED,
    ConditionType.AVAILABLE,
    ConditionType.PROGRESSING,
    ConditionType.DEGRADED,
    ConditionType.READY,
)


@dataclass(frozen=True)
class ServiceFacts:
    """All that the status depends on, beside the object itself."""

    resolution: Resolved | Rejection
    revisions: tuple[Revision, ...]
    view: ClusterView | None
    routed: str | None
    url: str
    proof_failure: str | None = None
    """Why the candidate's real inference failed, if it did."""
    cold_start: ColdStart | None = None
    """The ledger of a start that has just ended."""
    download: Download | None = None
    """What the candidate's replicas download."""
    waits: bool = False
    """Whether what is wanted is not begun, for lack of room."""
    shortage: str = ""
    """What there is too little of, with numbers."""
    shares: Mapping[str, PoolShare] = field(default_factory=dict)
    """By application, what it has of a pool with limits."""


def service_status(service: ModelService, facts: ServiceFacts, now: datetime) -> ModelServiceStatus:
    """The status that `service` should have."""
    old = service.status
    active = active_revision(facts.revisions)
    at_rest = all(r.phase is Phase.ACTIVE for r in facts.revisions) and _was_available(service)
    if facts.routed is None and active and active.name == old.active_revision and at_rest:
        # An operator that has just started has not asked the gateways yet: they do what they did before.
        facts = replace(facts, routed=active.name)
    application = _application(facts, active)
    running = application.running if application else 0
    available = _available(service, facts, active, application)
    degraded = _degraded(service, facts, active, application)
    progressing = _progressing(service, facts, active, application)
    accepted = _accepted(facts.resolution)
    conditions = (
        accepted,
        available,
        progressing,
        degraded,
        _ready(accepted, available, progressing, degraded),
    )
    name = active.name if active else None
    return ModelServiceStatus(
        observed_generation=service.metadata.generation,
        conditions=stamped(conditions, old.conditions, generation=service.metadata.generation, now=now),
        url=facts.url,
        serving_cluster=_cluster(facts, active) or old.serving_cluster,
        worker_shape=_shape(facts, active) or old.worker_shape,
        active_revision=name,
        revisions=_revisions(facts, active),
        replicas=running,
        desired_replicas=_desired(service, application),
        selector=f"{SERVICE_LABEL}={service.metadata.name}",
        plan=_plan(service, facts, running) or None,
        cold_start=facts.cold_start or old.cold_start,
        last_change=old.last_change if name == old.active_revision else now.replace(microsecond=0),
    )


def _application(facts: ServiceFacts, revision: Revision | None) -> ApplicationFacts | None:
    if revision is None or facts.view is None:
        return None
    return facts.view.application(revision.ray_cluster, revision.application)


def _accepted(resolution: Resolved | Rejection) -> Condition:
    if isinstance(resolution, Rejection):
        return condition(A, False, resolution.reason, resolution.message)
    return condition(A, True, Reason.ACCEPTED, f"Runs on {resolution.pool.metadata.name}/{resolution.shape.name}.")


def _available(
    service: ModelService, facts: ServiceFacts, active: Revision | None, application: ApplicationFacts | None
) -> Condition:
    if is_stopped(service.spec) and facts.routed:
        return condition(
            B, _was_available(service), Reason.SWITCHING_TRAFFIC, "The gateways have not all stopped its requests yet."
        )
    if service.spec.suspend:
        return condition(
            B, False, Reason.SUSPENDED, "spec.suspend is true: requests get 503. Set it to false to resume."
        )
    if is_stopped(service.spec):
        return condition(B, False, Reason.STOPPED, "spec.replicas is 0: requests get 503. Scale it up to serve.")
    if active is None and _making_place(facts):
        return condition(
            B,
            False,
            Reason.REPLACING,
            "The new revision does not fit beside the old one and takes its place, as spec.rollout.onNoHeadroom says: "
            "requests get 503 with Retry-After until it serves.",
        )
    if active is None:
        return condition(B, False, Reason.NOT_SERVING, "No revision has proved itself yet.")
    if application is None:
        return _unseen(service, facts, active)
    if facts.routed != active.name:
        return condition(
            B, _was_available(service), Reason.SWITCHING_TRAFFIC, "The gateways have not all switched yet."
        )
    if application.running:
        replicas = f"{application.running} of {application.target} replicas serve."
        return condition(B, True, Reason.SERVING, replicas)
    auto = service.spec.autoscaling
    if auto is not None and auto.min_replicas == 0 and application.target == 0:
        return condition(B, True, Reason.SCALED_TO_ZERO, "No load: the next request starts a replica and waits for it.")
    return condition(B, False, Reason.NOT_SERVING, "No replica serves now.")


def _unseen(service: ModelService, facts: ServiceFacts, active: Revision) -> Condition:
    """Serve cannot be asked, or has just lost the application: what was true may still be."""
    cluster = facts.view.ray_clusters.get(active.ray_cluster) if facts.view else None
    trouble = cluster.trouble if cluster else facts.view.trouble if facts.view else None
    before = next((c for c in service.status.conditions if c.type is B), None)
    lost = trouble is not None and trouble.reason is not Reason.SERVE_UNREACHABLE
    if trouble is not None and lost and not _serves_on(before, cluster, active):
        return condition(B, False, Reason.NOT_SERVING, trouble.message)
    if before is not None and before.status == "True":
        return before
    return condition(B, False, Reason.NOT_SERVING, "Ray Serve does not run it yet.")


def _serves_on(before: Condition | None, cluster: RayClusterView | None, active: Revision) -> bool:
    """Whether replicas that served before the head was lost still do: on workers that outlive it."""
    if before is None or before.reason != Reason.SERVING or cluster is None or not cluster.facts.redis:
        return False
    return any(pod in cluster.ways for pod in cluster.group_pods(active.group["groupName"]))


def _was_available(service: ModelService) -> bool:
    return any(c.type is B and c.status == "True" for c in service.status.conditions)


def _candidate(facts: ServiceFacts) -> Revision | None:
    return next((r for r in facts.revisions if r.phase is Phase.CANDIDATE), None)


def _making_place(facts: ServiceFacts) -> Revision | None:
    """The revision that has made place altogether, or is about to."""
    return next((r for r in facts.revisions if r.phase in (Phase.YIELDING, Phase.REPLACED)), None)


def _has_outlived(facts: ServiceFacts) -> Revision | None:
    """The revision that is back, or comes back, because what is wanted did not start in its place."""
    if not isinstance(facts.resolution, Resolved):
        return None
    back = [r for r in facts.revisions if r.outlived == facts.resolution.asked and r.phase is not Phase.RETIRED]
    wanted = any(r.asked == facts.resolution.asked and r.phase in RUNNING_PHASES for r in facts.revisions)
    return None if wanted else next(iter(back), None)


def _degraded(
    service: ModelService, facts: ServiceFacts, active: Revision | None, application: ApplicationFacts | None
) -> Condition:
    if is_stopped(service.spec):
        return condition(D, False, Reason.HEALTHY)
    candidate = _candidate(facts)
    if outlived := _has_outlived(facts):
        return _did_not_start(service, facts, outlived)
    failure = _failure(facts, candidate) or _failure(facts, active)
    if failure is None and facts.view is not None and any(_concerned(facts.view, r) for r in (active, candidate)):
        failure = facts.view.trouble
    if failure is not None:
        serving = " The active revision goes on serving." if candidate and application and application.running else ""
        return condition(D, True, failure.reason, failure.message + serving)
    if application is not None and application.status == "UNHEALTHY":
        return condition(
            D,
            True,
            Reason.REPLICAS_UNHEALTHY,
            f"Ray Serve: {application.message or 'replicas are unhealthy'}",
        )
    return condition(D, False, Reason.HEALTHY)


def _concerned(view: ClusterView, revision: Revision | None) -> bool:
    """Whether what is wrong with the RayCluster for new revisions is wrong for this one too."""
    return revision is not None and (
        revision.ray_cluster == view.current or revision.ray_cluster not in view.ray_clusters
    )


def _did_not_start(service: ModelService, facts: ServiceFacts, outlived: Revision) -> Condition:
    """Why the revision that was to take the place of `outlived` did not: as long as it is seen, and as it was told."""
    gone = next((r for r in facts.revisions if r.phase is Phase.RETIRED and r.asked == outlived.outlived), None)
    failure = _failure(facts, gone)
    if failure is not None:
        return condition(D, True, failure.reason, failure.message)
    before = next((c for c in service.status.conditions if c.type is D and c.status == "True"), None)
    return before or condition(D, True, Reason.DEPLOY_FAILED, "The new revision did not come up in time.")


def _failure(facts: ServiceFacts, revision: Revision | None) -> Failure | None:
    """What keeps `revision` from serving: its replicas' own words first, then its pods, then its proof."""
    if revision is None or facts.view is None:
        return None
    refused = _refused(facts, revision)
    if refused is not None:
        return refused
    application = _application(facts, revision)
    if application is not None and application.status == "RUNNING" and application.running >= application.target:
        if revision.phase is Phase.CANDIDATE and facts.proof_failure:
            return Failure(Reason.PROOF_FAILED, f"The new revision fails a real inference: {facts.proof_failure}")
        return None
    told = classify(application.message) if application is not None and application.message else None
    if told is not None and told.reason is not Reason.DEPLOY_FAILED:
        return told
    cluster = facts.view.ray_clusters.get(revision.ray_cluster)
    below = _failure_below(cluster, revision.group["groupName"], blamed=told is not None) if cluster else None
    gave_up = application is not None and application.status == "DEPLOY_FAILED"
    return below or (told if gave_up else None)


def _refused(facts: ServiceFacts, revision: Revision) -> Failure | None:
    """Ray Serve does not take this revision as it should be; what it took before goes on."""
    cluster = facts.view.ray_clusters.get(revision.ray_cluster) if facts.view else None
    message = cluster.refused.get(revision.application) if cluster else None
    if message is None:
        return None
    return Failure(Reason.CONFIG_REFUSED, f"Ray Serve refuses revision {revision.name}: {message}")


def _failure_below(cluster: RayClusterView, group: str, *, blamed: bool) -> Failure | None:
    """What is wrong with the workers that a revision needs, or with their cluster.

    Services share a group: a death in it is this revision's only where Ray Serve complains of it too (`blamed`).
    """
    troubles = [pod.trouble for pod in cluster.group_pods(group) if pod.trouble]
    return next(iter(troubles), None) or (cluster.deaths.get(group) if blamed else None) or cluster.trouble


def _progressing(
    service: ModelService, facts: ServiceFacts, active: Revision | None, application: ApplicationFacts | None
) -> Condition:
    candidate = _candidate(facts)
    if candidate is not None:
        failure = _failure(facts, candidate)
        gave_up = _application(facts, candidate)
        hopeless = gave_up is not None and gave_up.status == "DEPLOY_FAILED"
        if failure is not None and (hopeless or _refused(facts, candidate) is not None):
            return condition(
                P,
                False,
                Reason.FAILED,
                f"Revision {candidate.name} does not start; it is tried again. {failure.message}",
            )
        reason, message = _waits_for(facts, candidate)
        if facts.shortage and reason in (Reason.WAITING_FOR_WORKER, Reason.LOADING_MODEL):
            return condition(
                P,
                True,
                Reason.NO_HEADROOM,
                f"Revision {candidate.name} {facts.shortage}. It goes on when there is room.",
            )
        return condition(P, True, reason, f"Revision {candidate.name}: {message}")
    if waiting := _without_room(service, facts, active):
        return waiting
    if active is not None and facts.routed != active.name and not is_stopped(service.spec):
        return condition(P, True, Reason.SWITCHING_TRAFFIC, f"The gateways switch to revision {active.name}.")
    draining = [r.name for r in facts.revisions if r.phase in (Phase.DRAINING, Phase.RETIRED)]
    if draining:
        return condition(P, True, Reason.DRAINING, f"Revision {', '.join(draining)} finishes its requests.")
    share = facts.shares.get(active.application) if active is not None else None
    running = application.running if application is not None else 0
    if share is not None and share.is_short and running >= share.share:
        return condition(P, True, Reason.POOL_FULL, pool_words(share, running))
    if application is not None and application.running != application.target:
        return condition(P, True, Reason.SCALING, f"{application.running} of {application.target} replicas serve.")
    if share is not None and share.is_bound:
        return condition(P, False, Reason.COMPLETE, pool_words(share, running))
    return condition(P, False, Reason.COMPLETE)


def _without_room(service: ModelService, facts: ServiceFacts, active: Revision | None) -> Condition | None:
    """What happens where a new revision and the old one do not fit together."""
    if is_stopped(service.spec):
        return None
    outlived, making = _has_outlived(facts), _making_place(facts)
    if outlived is not None and active is not None:
        text = (
            f"The new revision did not start in the place of revision {outlived.name}, which serves again and makes "
            "place for it no second time. Correct the spec; or free workers, and it is tried beside."
        )
        return condition(P, False, Reason.FAILED, text)
    if active is None and making is not None:
        text = f"Revision {making.name} makes place: it finishes its requests, and then the new one starts."
        return condition(P, True, Reason.REPLACING, text)
    if not facts.waits:
        return None
    if not facts.shortage:
        return condition(P, True, Reason.WAITING_FOR_CLUSTER, "The new revision waits until Ray Serve says what runs.")
    text = f"The new revision {facts.shortage}. The active revision serves on; the new one comes when there is room."
    if service.spec.rollout.on_no_headroom == "Wait":
        text += " Free workers or add some, or set spec.rollout.onNoHeadroom: Replace to take its place now."
    return condition(P, True, Reason.NO_HEADROOM, text)


def _plan(service: ModelService, facts: ServiceFacts, running: int) -> tuple[PlanStep, ...]:
    if is_stopped(service.spec):
        return ()
    return plan(
        PlanFacts(
            revisions=facts.revisions,
            view=facts.view,
            routed=facts.routed,
            waits=facts.waits,
            replicas=surge_replicas(service.spec, running),
            last=facts.cold_start or service.status.cold_start,
        )
    )


def _waits_for(facts: ServiceFacts, revision: Revision) -> tuple[Reason, str]:
    cluster = facts.view.ray_clusters.get(revision.ray_cluster) if facts.view else None
    if cluster is None or cluster.applications is None:
        return Reason.WAITING_FOR_CLUSTER, "waits for the Ray head to come up."
    pods = cluster.group_pods(revision.group["groupName"])
    application = cluster.applications.get(revision.application)
    share = facts.shares.get(revision.application)
    if application is None and share is not None and share.share == 0:
        return Reason.POOL_FULL, pool_words(share, 0)
    if application is not None and application.status == "DELETING":
        return Reason.DRAINING, "waits for its former run to finish the last requests, at most spec.requestTimeout."
    lacking = application is None or application.running < max(1, application.target)
    if not lacking and application is not None:
        return Reason.PROVING, "all replicas are up; asks for a real inference."
    unstarted = [pod for pod in pods if pod.waiting is not None]
    if unstarted and unstarted[0].waiting is not None:
        return unstarted[0].waiting, f"waits for the worker pod {unstarted[0].name}."
    if not any(pod.ready for pod in pods):
        return Reason.WAITING_FOR_WORKER, "waits for a worker to join Ray."
    up = f"{application.running} of {application.target} replicas are up" if application else "no replica yet"
    if facts.download is not None and facts.download.done < facts.download.size:
        return Reason.LOADING_MODEL, f"replicas download the model, {facts.download.words()}; {up}."
    return Reason.LOADING_MODEL, f"replicas load the model; {up}."


def _ready(accepted: Condition, available: Condition, progressing: Condition, degraded: Condition) -> Condition:
    if accepted.status != "True":
        return accepted.model_copy(update={"type": R})
    if progressing.reason == Reason.FAILED:
        return condition(R, False, Reason(degraded.reason), degraded.message)
    if available.status != "True" and degraded.status == "True":
        return condition(R, False, Reason(degraded.reason), degraded.message)
    if available.reason == Reason.NOT_SERVING and progressing.status == "True":
        return condition(R, False, Reason(progressing.reason), progressing.message)
    return available.model_copy(update={"type": R})


def _revisions(facts: ServiceFacts, active: Revision | None) -> tuple[RevisionStatus, ...]:
    shown = [r for r in facts.revisions if r.phase is not Phase.STOPPED]
    return tuple(
        RevisionStatus(
            name=r.name,
            phase="Draining" if r.phase is Phase.RETIRED else r.phase.value,
            traffic=100 if active is not None and r.name == active.name and facts.routed == r.name else 0,
            message=_waits_for(facts, r)[1] if r.phase is Phase.CANDIDATE else "",
        )
        for r in sorted(shown, key=lambda r: -r.number)
    )


def _desired(service: ModelService, application: ApplicationFacts | None) -> int:
    if is_stopped(service.spec):
        return 0
    if service.spec.autoscaling is None:
        return fixed_replicas(service.spec)
    return application.target if application else service.spec.autoscaling.min_replicas


def _cluster(facts: ServiceFacts, active: Revision | None) -> str | None:
    if isinstance(facts.resolution, Resolved):
        return f"{facts.resolution.cluster_namespace}/{facts.resolution.cluster_name}"
    return "/".join(active.cluster_key) if active else None


def _shape(facts: ServiceFacts, active: Revision | None) -> str | None:
    if active is not None:
        return f"{active.data['pool']}/{active.data['shape']}"
    if isinstance(facts.resolution, Resolved):
        return f"{facts.resolution.pool.metadata.name}/{facts.resolution.shape.name}"
    return None
