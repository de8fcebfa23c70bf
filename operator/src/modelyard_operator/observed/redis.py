"""What keeps the Redis of a ServingCluster from coming up."""

from collections.abc import Mapping
from typing import Any

from modelyard_operator.api.conditions import Reason
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.pods import PodFacts


def has_no_storage_class(claim: Mapping[str, Any]) -> bool:
    """Whether a claim has no StorageClass and no volume: the API server puts the default class in, if there is one."""
    bound = (claim.get("status") or {}).get("phase") == "Bound"
    return not bound and not claim["spec"].get("storageClassName")


def redis_trouble(claim: Mapping[str, Any], pod: PodFacts | None, *, expected: bool) -> Failure | None:
    """What is wrong with it, or None where it is up, or on its way and not yet `expected` to be."""
    name = claim["metadata"]["name"]
    if has_no_storage_class(claim):
        return Failure(
            Reason.NO_STORAGE_CLASS,
            f"The claim {name} for the state of the Ray head gets no volume: the cluster has no default StorageClass. "
            "Name one in spec.redis.storage.storageClassName, or a Redis of yours in spec.redis.address, or set "
            "spec.highAvailability to false.",
        )
    if (pod is not None and pod.ready) or not expected:
        return None
    phase = (claim.get("status") or {}).get("phase", "Pending")
    if pod is not None and pod.trouble is not None:
        why = pod.trouble.message
    elif phase != "Bound":
        why = f"The claim {name} is {phase}; its StorageClass is {claim['spec'].get('storageClassName')}."
    else:
        why = f"Its pod {name}-0 is starting."
    return Failure(
        Reason.REDIS_NOT_READY,
        "The Redis that keeps the state of the Ray head is not up; what runs goes on, but a new head waits for it. "
        f"{why}",
    )
