"""The cold-start ledger: where the time went between a revision's creation and its proof."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelyard_operator.api.model_service import ColdStart
from modelyard_operator.desired.revision import Revision
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.view import ClusterView


@dataclass(frozen=True)
class Proven:
    """What a revision told when it proved itself."""

    seconds: float
    """Of the real inference."""
    start: Mapping[str, float]
    """Seconds of its own start by phase: download (where there was one), imports, load, warmup."""


def cold_start(revision: Revision, view: ClusterView, proven: Proven, now: datetime) -> ColdStart:
    """The ledger of `revision`, which has just proved itself.

    A worker that was there before the revision cost it nothing. What no phase accounts for is the way from a running
    container to the replica's first line: joining Ray and being given to a worker process.
    """
    created = datetime.fromisoformat(revision.created)
    total = (now - created).total_seconds()
    pod = _worker(revision, view)
    own = proven.start
    marks = [created, *((pod.created, pod.scheduled, pod.started) if pod else ())]
    provisioning, scheduling, image = _gaps(marks)
    known = provisioning + scheduling + image + sum(own.values()) + proven.seconds
    return ColdStart(
        revision=revision.name,
        provisioning=round(provisioning, 1),
        scheduling=round(scheduling, 1),
        image=round(image, 1),
        ray_join=round(max(0.0, total - known), 1),
        download=_rounded(own.get("download")),
        imports=_rounded(own.get("imports")),
        load=_rounded(own.get("load")),
        warmup=_rounded(own.get("warmup")),
        proof=round(proven.seconds, 2),
        total=round(total, 1),
    )


def _worker(revision: Revision, view: ClusterView) -> PodFacts | None:
    cluster = view.ray_clusters[revision.ray_cluster]
    application = view.application(revision.ray_cluster, revision.application)
    nodes = application.nodes if application else frozenset()
    pods = [pod for pod in cluster.group_pods(revision.group["groupName"]) if pod.address in nodes]
    return min(pods, key=lambda pod: pod.name, default=None)


def _gaps(marks: list[datetime | None]) -> tuple[float, float, float]:
    """Seconds from mark to mark; nothing where a mark is missing or lies before the revision."""
    gaps = []
    last = marks[0]
    for mark in (marks[1:] + [None] * 3)[:3]:
        gap = (mark - last).total_seconds() if mark is not None and last is not None else 0.0
        gaps.append(max(0.0, gap))
        last = max(mark, last) if mark is not None and last is not None else last
    return gaps[0], gaps[1], gaps[2]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
