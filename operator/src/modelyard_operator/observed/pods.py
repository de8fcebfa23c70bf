"""Facts from Ray pods: where they stand, and what keeps them from starting."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard_operator.api.conditions import Reason
from modelyard_operator.observed.failures import Failure

_AUTOSCALER = "autoscaler"
"""KubeRay's name of the container in the head."""
_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True)
class PodFacts:
    """A pod of a RayCluster."""

    name: str
    group: str
    is_head: bool
    ready: bool
    address: str = ""
    trouble: Failure | None = None
    """What keeps it from running, or what killed its last container."""
    waiting: Reason | None = None
    """What it waits for while nothing is wrong."""
    created: datetime | None = None
    scheduled: datetime | None = None
    started: datetime | None = None
    autoscaler_ended: bool = False
    """A head in which Ray runs on without its autoscaler, which nothing starts again."""


def parse_pods(pods: Iterable[Mapping[str, Any]]) -> tuple[PodFacts, ...]:
    """Facts of the pods that are not on their way out, sorted by name."""
    live = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    return tuple(sorted((_pod(pod) for pod in live), key=lambda pod: pod.name))


def parse_leaving(pods: Iterable[Mapping[str, Any]]) -> tuple[PodFacts, ...]:
    """Facts of the workers on their way out that still serve: those that drain before they end, sorted by name."""
    leaving = [_pod(pod) for pod in pods if pod["metadata"].get("deletionTimestamp") and _drains(pod)]
    return tuple(sorted((pod for pod in leaving if pod.ready and not pod.is_head), key=lambda pod: pod.name))


def _drains(pod: Mapping[str, Any]) -> bool:
    containers = (pod.get("spec") or {}).get("containers") or []
    return any((container.get("lifecycle") or {}).get("preStop") for container in containers)


def _pod(pod: Mapping[str, Any]) -> PodFacts:
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    containers = status.get("containerStatuses") or []
    statuses = [*(status.get("initContainerStatuses") or []), *containers]
    started = _running_since(containers)
    ready = conditions.get("Ready", {}).get("status") == "True"
    scheduled = conditions.get("PodScheduled", {})
    return PodFacts(
        name=metadata["name"],
        group=labels.get("ray.io/group", ""),
        is_head=labels.get("ray.io/node-type") == "head",
        ready=ready,
        address=status.get("podIP", "") if status.get("phase") == "Running" else "",
        trouble=None if ready else _trouble(metadata["name"], status, scheduled, statuses),
        waiting=_waiting(scheduled, started),
        created=_time(metadata.get("creationTimestamp")),
        scheduled=_time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        started=started,
        autoscaler_ended=_autoscaler_ended(pod.get("spec") or {}, containers),
    )


def _autoscaler_ended(spec: Mapping[str, Any], containers: Iterable[Mapping[str, Any]]) -> bool:
    states = {container.get("name"): container.get("state") or {} for container in containers}
    autoscaler = states.pop(_AUTOSCALER, {})
    runs_on = any("running" in state for state in states.values())
    return spec.get("restartPolicy") == "Never" and "terminated" in autoscaler and runs_on


def _trouble(
    name: str,
    status: Mapping[str, Any],
    scheduled: Mapping[str, Any],
    containers: Iterable[Mapping[str, Any]],
) -> Failure | None:
    if scheduled.get("reason") == "Unschedulable":
        return Failure(
            Reason.NO_NODE_FITS,
            f"No node takes the worker: {scheduled.get('message', '')} Add a node, free one, or ask for less.",
        )
    for container in containers:
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in _IMAGE_REASONS:
            return Failure(
                Reason.IMAGE_NOT_FOUND,
                f"The image {container.get('image')} cannot be pulled: {waiting.get('message') or waiting['reason']}. "
                "Correct spec.runtime.image of the ServingCluster, or its imagePullSecrets.",
            )
        if waiting.get("reason") == "CreateContainerConfigError":
            return Failure(Reason.POD_FAILED, f"The pod {name} cannot be made: {waiting.get('message', '')}")
        if _was_killed(container):
            return _out_of_memory(name)
    if status.get("phase") == "Failed":
        return Failure(Reason.POD_FAILED, f"The pod {name} failed: {status.get('message') or status.get('reason')}")
    return None


def killed_by_memory(pod: Mapping[str, Any]) -> Failure | None:
    """The failure of a pod with a container that was killed for using more memory than its limit."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return _out_of_memory(pod["metadata"]["name"]) if any(map(_was_killed, statuses)) else None


def _was_killed(container: Mapping[str, Any]) -> bool:
    ended = [(container.get(state) or {}).get("terminated") or {} for state in ("state", "lastState")]
    return any(end.get("reason") == "OOMKilled" for end in ended)


def _out_of_memory(name: str) -> Failure:
    return Failure(
        Reason.OUT_OF_MEMORY,
        f"The pod {name} used more memory than its limit and was killed. Raise spec.resources.memory "
        "(or spec.head.memory of the ServingCluster, if it is the head).",
    )


def _waiting(scheduled: Mapping[str, Any], started: datetime | None) -> Reason | None:
    if scheduled.get("reason") == "SchedulingGated":
        return Reason.QUEUED
    if scheduled.get("status") != "True":
        return Reason.WAITING_FOR_WORKER
    return None if started else Reason.PULLING_IMAGE


def _running_since(containers: Iterable[Mapping[str, Any]]) -> datetime | None:
    times = [(c.get("state") or {}).get("running", {}).get("startedAt") for c in containers]
    known = [parsed for parsed in map(_time, times) if parsed]
    return max(known, default=None)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
