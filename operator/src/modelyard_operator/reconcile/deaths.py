"""Ray pods that were killed: KubeRay removes them at once, so what a LIST shows may come too late to know why."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelyard_operator.kube.client import Manifest
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.pods import killed_by_memory

_REMEMBERED = timedelta(minutes=10)


@dataclass
class PodDeaths:
    """The latest death by memory of each worker group, as watch events told of it."""

    _latest: dict[tuple[str, str, str], tuple[Failure, datetime]] = field(default_factory=dict)

    def note(self, pod: Manifest, now: datetime) -> None:
        """Look at a pod as an event shows it, its last state included."""
        failure = killed_by_memory(pod)
        self._latest = {where: death for where, death in self._latest.items() if now - death[1] < _REMEMBERED}
        if failure is not None:
            labels = pod["metadata"].get("labels") or {}
            where = pod["metadata"]["namespace"], labels.get("ray.io/cluster", ""), labels.get("ray.io/group", "")
            self._latest[where] = failure, now

    def of(self, namespace: str, ray_cluster: str, now: datetime) -> dict[str, Failure]:
        """What killed workers of a RayCluster lately, by their group."""
        return {
            group: failure
            for (where, cluster, group), (failure, at) in self._latest.items()
            if (where, cluster) == (namespace, ray_cluster) and now - at < _REMEMBERED
        }
