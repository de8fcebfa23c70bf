"""What the operator last saw of a ServingCluster: shared by the loops, read-only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from zlib import crc32

from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import RayClusterFacts
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.serve import ApplicationFacts

_OTHERS = 4
"""How many workers without a replica of an application speak for all that have none."""


def ways(
    pods: Iterable[PodFacts], leaving: Iterable[PodFacts], listening: frozenset[str] | None
) -> tuple[PodFacts, ...]:
    """The pods that gateways may send requests to: the head, and ready workers that Ray Serve listens on.

    Where it is not known who listens, every ready worker may. One that is leaving may as long as no other can: it
    serves until its replicas do elsewhere.
    """
    staying = tuple(pod for pod in pods if pod.address and (pod.is_head or _listens(pod, listening)))
    if any(not pod.is_head for pod in staying):
        return staying
    return (*staying, *(pod for pod in leaving if pod.address and _listens(pod, listening)))


def listening(serving: Mapping[str, frozenset[str]] | None) -> frozenset[str] | None:
    """Addresses of the workers that Ray Serve listens on: those with a replica of any service; None: not known."""
    return None if serving is None else frozenset().union(*serving.values())


def _listens(pod: PodFacts, listening: frozenset[str] | None) -> bool:
    return pod.ready and (listening is None or pod.address in listening)


@dataclass(frozen=True)
class RayClusterView:
    """One RayCluster with its pods and applications."""

    facts: RayClusterFacts
    pods: tuple[PodFacts, ...] = ()
    leaving: tuple[PodFacts, ...] = field(default=(), kw_only=True)
    """Workers on their way out that still serve; not among `pods`."""
    applications: Mapping[str, ApplicationFacts] | None = None
    """None while Serve cannot be asked."""
    trouble: Failure | None = None
    deaths: Mapping[str, Failure] = field(default_factory=dict)
    """What killed a worker lately, by group."""
    serving: Mapping[str, frozenset[str]] | None = None
    """Addresses of the pods with a running replica, by application, as last known; None where that never was."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Applications that Ray refuses for what stands in their own part of the config, with its words."""

    @cached_property
    def ways(self) -> tuple[PodFacts, ...]:
        """The pods that gateways may send requests to."""
        return ways(self.pods, self.leaving, listening(self.serving))

    def ways_of(self, application: str) -> tuple[PodFacts, ...]:
        """The ways on which gateways that know the own servers of a route bring it its requests.

        Those are the workers with a replica of it, and the head where no worker is up. Of the other workers, which get
        requests only when one of its own has just gone, there are a few: Serve tells them all alike.
        """
        own = (self.serving or {}).get(application)
        if not own:
            return self.ways
        led_to = [pod for pod in self.ways if pod.is_head or pod.address in own]
        others = [pod for pod in self.ways if not pod.is_head and pod.address not in own]
        return (*led_to, *sorted(others, key=lambda pod: crc32(f"{application} {pod.name}".encode()))[:_OTHERS])

    def concerns(self, application: str, group: str) -> tuple[object, ...]:
        """What of this the service of a revision depends on, by the revision's application and worker group.

        Where it is equal in two looks, nothing has changed for the service but the room beside others.
        """
        facts = self.applications.get(application) if self.applications is not None else None
        told = self.facts, self.trouble, facts, self.refused.get(application), self.deaths.get(group)
        if facts is not None and facts.status == "RUNNING" and facts.running >= facts.target:
            return told  # Others' workers of the same group come and go.
        led_to = tuple(pod for pod in self.ways if pod.group == group)
        return *told, self.applications is None, self.group_pods(group), led_to

    def group_pods(self, group: str) -> tuple[PodFacts, ...]:
        """The workers of a group."""
        return tuple(pod for pod in self.pods if pod.group == group and not pod.is_head)


@dataclass(frozen=True)
class ClusterView:
    """A ServingCluster as last seen."""

    current: str
    """The RayCluster for new revisions."""
    ray_clusters: Mapping[str, RayClusterView] = field(default_factory=dict)
    trouble: Failure | None = None
    """What keeps the whole cluster from working: KubeRay absent, head gone..."""
    redis: Failure | None = None
    """What is wrong with the Redis that keeps the heads' state: what runs goes on without it."""

    def application(self, ray_cluster: str, name: str) -> ApplicationFacts | None:
        """Facts of an application; None where it is not there or Serve cannot be asked."""
        view = self.ray_clusters.get(ray_cluster)
        if view is None or view.applications is None:
            return None
        return view.applications.get(name)

    def is_gone(self, ray_cluster: str, application: str) -> bool:
        """Whether an application is known not to run: absence must be seen, not assumed."""
        view = self.ray_clusters.get(ray_cluster)
        if view is None:
            return True
        return view.applications is not None and application not in view.applications
