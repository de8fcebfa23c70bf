"""The status of a ServingCluster."""

from dataclasses import dataclass
from datetime import datetime

from modelyard_operator.api.conditions import Condition, ConditionType, Reason
from modelyard_operator.api.serving_cluster import ServingCluster, ServingClusterStatus
from modelyard_operator.observed.view import ClusterView
from modelyard_operator.status.conditions import condition, stamped

_ONE_HEAD = (
    "Its head was made before spec.highAvailability and keeps no state: when it dies, all models start anew. Any "
    "change of spec.head, or of spec.runtime but its volumes, makes another one beside it."
)


@dataclass(frozen=True)
class ClusterFacts:
    """All that the status depends on, beside the object itself."""

    view: ClusterView
    services: int
    deleting: bool
    highly_available: bool
    """Whether its heads should keep their state."""


def cluster_status(cluster: ServingCluster, facts: ClusterFacts, now: datetime) -> ServingClusterStatus:
    """The status that `cluster` should have."""
    conditions = _conditions(facts)
    current = facts.view.ray_clusters.get(facts.view.current)
    pods = [pod for ray in facts.view.ray_clusters.values() for pod in ray.pods]
    return ServingClusterStatus(
        observed_generation=cluster.metadata.generation,
        conditions=stamped(conditions, cluster.status.conditions, generation=cluster.metadata.generation, now=now),
        ray_cluster=facts.view.current if current is not None else None,
        ray_version=current.facts.ray_version if current is not None else None,
        services=facts.services,
        workers=sum(pod.ready and not pod.is_head for pod in pods),
    )


def _conditions(facts: ClusterFacts) -> tuple[Condition, ...]:
    accept, available, progress, degrade, ready = (
        ConditionType.ACCEPTED,
        ConditionType.AVAILABLE,
        ConditionType.PROGRESSING,
        ConditionType.DEGRADED,
        ConditionType.READY,
    )
    current = facts.view.ray_clusters.get(facts.view.current)
    accepted = condition(accept, True, Reason.ACCEPTED)
    if facts.deleting:
        message = (
            f"{facts.services} ModelServices are bound to it: it goes when they are gone. "
            "Delete them, or bind them to another ServingCluster in spec.servingCluster."
        )
        waits = condition(progress, True, Reason.DELETING, message)
        return accepted, waits, waits.model_copy(update={"type": ready, "status": "False"})
    trouble = facts.view.trouble
    if current is not None and current.applications is not None:
        workers = sum(pod.ready and not pod.is_head for pod in current.pods)
        note = "" if current.facts.redis or not facts.highly_available else f" {_ONE_HEAD}"
        up = condition(available, True, Reason.SERVING, f"Ray Serve answers; {workers} workers are ready.{note}")
        moving = condition(progress, False, Reason.COMPLETE)
    else:
        waits_for = trouble.message if trouble else "The Ray head is starting."
        reason = trouble.reason if trouble else Reason.HEAD_STARTING
        up = condition(available, False, reason, waits_for)
        moving = condition(progress, trouble is None, reason, waits_for)
    told = trouble or facts.view.redis
    wrong = condition(degrade, True, told.reason, told.message) if told else condition(degrade, False, Reason.HEALTHY)
    return accepted, up, moving, wrong, up.model_copy(update={"type": ready})
