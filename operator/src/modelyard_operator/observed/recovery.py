"""What a head that takes another one's place says before it knows what runs on its workers."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from modelyard_operator.api.conditions import Reason
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import RayClusterFacts
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.serve import ApplicationFacts

_WITHIN = timedelta(seconds=300)
"""A new head finds what runs on its workers within this, or it is not there any more."""


def is_recovering(
    facts: RayClusterFacts, pods: Iterable[PodFacts], active: Iterable[ApplicationFacts | None], now: datetime
) -> bool:
    """Whether a new head has not yet found again all that serves on its workers.

    What it says until then would take workers from the gateways and write to Serve what it is about to remember.
    `active` has what it says of the revisions that take requests, None of one that it does not know.
    """
    head = next((pod for pod in pods if pod.is_head), None)
    if not facts.redis or head is None or head.created is None or head.started is None:
        return False
    is_first = facts.ready_since is None or head.created <= facts.ready_since
    if is_first or now - head.started > _WITHIN:
        return False
    return any(application is None or application.recovering for application in active)


def recovering(facts: RayClusterFacts) -> Failure:
    """What is wrong meanwhile."""
    return Failure(
        Reason.HEAD_GONE,
        f"The new head of RayCluster {facts.name} is looking for what runs on its workers, which serve on meanwhile.",
    )
