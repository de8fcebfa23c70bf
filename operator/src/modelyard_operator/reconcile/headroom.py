"""Looks for room before a surge: reads what bounds more workers and asks `desired.headroom`."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from modelyard_operator.api.model_service import ModelService
from modelyard_operator.desired.headroom import (
    Capacity,
    Held,
    Room,
    Worker,
    room,
    shortage,
    takes,
    with_init,
    worker_of,
)
from modelyard_operator.desired.names import application_name
from modelyard_operator.desired.namespace_limits import refusal, with_defaults
from modelyard_operator.desired.pool_demand import limits_of
from modelyard_operator.desired.pool_shares import Demand, Group
from modelyard_operator.desired.resolution import Rejection, Resolved
from modelyard_operator.desired.revision import Phase, Revision, new_revision
from modelyard_operator.desired.rollout import fits
from modelyard_operator.desired.routes import active_revision
from modelyard_operator.desired.scaling import fixed_replicas, is_stopped, surge_replicas
from modelyard_operator.kube.client import LIMIT_RANGE, NODE, POD, RESOURCE_QUOTA, Kind, Manifest
from modelyard_operator.kube.errors import Forbidden
from modelyard_operator.observed.capacity import (
    LimitRangeItem,
    NodeFacts,
    PodRequests,
    QuotaFacts,
    parse_limit_ranges,
    parse_nodes,
    parse_quotas,
    parse_requests,
)
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.observed.view import ClusterView, RayClusterView
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.result import Key

_FRESH, _FRESH_PER_READING, _STALE = timedelta(seconds=5), 20, timedelta(seconds=30)
"""What is read of nodes, pods and quotas serves all services for the first; where it takes long to read, for so many
times that, at most for the last."""
_MAKING_PLACE = (Phase.YIELDING, Phase.REPLACED)


@dataclass(frozen=True)
class Outlook:
    """What was found out about room for what is wanted."""

    room: Room = field(default_factory=Room)
    shortage: str = ""
    """What there is too little of, with numbers; empty where there is enough or nothing is to come up."""
    refusal: Rejection | None = None
    """Why no worker of this shape can ever be made where the ServingCluster is."""


@dataclass(frozen=True)
class Surge:
    """What is to come up, and what is there."""

    service: ModelService
    wanted: Resolved
    revisions: tuple[Revision, ...]
    view: ClusterView

    @property
    def base(self) -> Revision | None:
        """The revision that serves, or has made place."""
        making = [r for r in self.revisions if r.phase in _MAKING_PLACE]
        return active_revision(self.revisions) or max(making, key=lambda r: r.number, default=None)

    @property
    def candidate(self) -> Revision | None:
        return next((r for r in self.revisions if r.phase is Phase.CANDIDATE), None)


@dataclass(frozen=True)
class _Placed:
    """Nodes and pods as they were read at once: many services look at the same."""

    nodes: list[Manifest]
    pods: list[Manifest]

    @cached_property
    def requests(self) -> tuple[PodRequests, ...]:
        return parse_requests(self.pods)

    @cached_property
    def free(self) -> tuple[NodeFacts, ...]:
        return parse_nodes(self.nodes, self.requests)

    def free_without(self, going: Collection[PodRequests]) -> tuple[NodeFacts, ...]:
        """The nodes once the pods that are going are gone."""
        return parse_nodes(self.nodes, [p for p in self.requests if p not in going]) if going else self.free


class Headroom:
    """Reads nodes, pods, quotas and limit ranges, and remembers them for a moment."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._read: dict[tuple[Kind, str], tuple[datetime, list[Manifest]]] = {}
        """Until when it is fresh, and what was read."""
        self._asking: dict[tuple[Kind, str], asyncio.Lock] = {}
        self._placed = _Placed([], [])

    async def outlook(
        self,
        service: ModelService,
        wanted: Resolved | Rejection,
        revisions: tuple[Revision, ...],
        view: ClusterView | None,
    ) -> Outlook:
        """The room for `wanted`, where it is not up yet; nothing is read where nothing is to come up."""
        unseen = Outlook(Room(beside=view is not None))  # What serves is not surged over blindly.
        if is_stopped(service.spec) or isinstance(wanted, Rejection):
            return unseen
        active = active_revision(revisions)
        if active is not None and fits(active, wanted):
            return unseen
        candidate = next((r for r in revisions if r.phase is Phase.CANDIDATE), None)
        if candidate is not None and view is not None and _is_up(view, candidate):
            return unseen
        ranges, quotas = await self._bounds(wanted.cluster_namespace)
        worker = worker_of(wanted.pool.metadata.name, wanted.shape.name, new_revision(wanted, 0).group)
        forbidden = refusal(worker, wanted.cluster_namespace, ranges, quotas)
        if forbidden is not None or view is None:
            return replace(unseen, refusal=forbidden)
        surge = Surge(service, wanted, revisions, view)
        if surge.base is None and candidate is None:
            return unseen
        shared = replace(with_defaults(worker, ranges), replicas=wanted.shape.replicas_per_worker)
        return await self._outlook(surge, shared, quotas)

    async def _bounds(self, namespace: str) -> tuple[tuple[LimitRangeItem, ...], tuple[QuotaFacts, ...]]:
        ranges = parse_limit_ranges(await self._list(LIMIT_RANGE, namespace))
        return ranges, parse_quotas(await self._list(RESOURCE_QUOTA, namespace))

    async def _outlook(self, surge: Surge, worker: Worker, quotas: tuple[QuotaFacts, ...]) -> Outlook:
        policy = surge.service.spec.rollout.on_no_headroom
        nodes, pods = await self._list(NODE, ""), await self._list(POD, "")
        # From here on nothing is awaited: what is found holds until the caller has put down its claim.
        cluster = surge.view.ray_clusters.get(surge.wanted.ray_cluster)
        if cluster is not None and cluster.applications is None and _shares_cluster(surge):
            return Outlook(Room(beside=False))
        if self._placed.nodes is not nodes or self._placed.pods is not pods:
            self._placed = _Placed(nodes, pods)
        placed = self._placed.requests
        if any(_is_initialized(pod, surge.wanted) for pod in pods):
            worker = with_init(worker)
        leaving = _leaving(cluster, worker.group) if cluster else frozenset()
        namespace = surge.wanted.cluster_namespace
        going = [p for p in placed if p.namespace == namespace and p.name in leaving]
        able = tuple(node for node in self._placed.free_without(going) if takes(node, surge.wanted.pool))
        capacity = Capacity(
            limit=surge.wanted.pool.spec.max_workers,
            used=self._used(surge, worker.group),
            idle=0,
            quotas=tuple(_without(quota, going) for quota in quotas),
            nodes=able,
        )
        replicas = surge_replicas(surge.service.spec, _running(surge))
        capacity = replace(capacity, share=self._share(surge, worker.group, replicas))
        ready = cluster.group_pods(worker.group) if cluster else ()
        capacity = replace(capacity, idle=max(0, worker.replicas * sum(pod.ready for pod in ready) - capacity.used))
        if surge.candidate is not None and fits(surge.candidate, surge.wanted):
            own = surge.view.application(surge.candidate.ray_cluster, surge.candidate.application)
            lacking = max(0, (own.target if own else replicas) - (own.running if own else 0))
            return Outlook(shortage=shortage(worker, lacking, capacity) if lacking else "")
        held = _held(surge, worker.group, placed)
        # A node may come when a pod asks for one: only where the old one may make place do today's nodes decide.
        decides = capacity if policy == "Replace" else replace(capacity, nodes=None)
        found = room(worker, replicas, decides, held)
        return Outlook(found, "" if found.beside else shortage(worker, replicas, decides))

    def _share(self, surge: Surge, group: str, replicas: int) -> int | None:
        """Replicas that the pool's limits would let come up beside all that there is."""
        wanted = surge.wanted
        limits = limits_of(wanted.pool.spec)
        if limits is None:
            return None
        newcomer = Demand(
            wanted.namespace,
            application_name(wanted.namespace, wanted.name, wanted.revision),
            Group(wanted.cluster_namespace, wanted.ray_cluster, group),
            least=replicas,
            most=replicas,
            wanted=replicas,
            per_worker=wanted.shape.replicas_per_worker,
        )
        return self._app.pools.room(wanted.pool.metadata.name, limits, newcomer)

    def _used(self, surge: Surge, group: str) -> int:
        """Replicas that are to run in the group, without those of the service's own candidates."""
        wanted, own = surge.wanted, {r.application: r for r in surge.revisions}
        cluster = surge.view.ray_clusters.get(wanted.ray_cluster)
        applications = (cluster.applications if cluster else None) or {}
        used = 0
        for name, facts in applications.items():
            if facts.group == group and facts.status != "DELETING":
                mine = own.get(name)
                if mine is None or mine.phase is Phase.DRAINING:
                    used += facts.demand
        base = surge.base
        if base is not None and base.phase is not Phase.REPLACED and _is_same_group(base, wanted, group):
            used += _replicas(surge, base)
        me = Key(wanted.namespace, wanted.name)
        return used + sum(
            claim.replicas
            for key, claim in self._app.claims.items()
            if key != me
            and (claim.ray_cluster, claim.group) == (wanted.ray_cluster, group)
            and claim.application not in applications
        )

    async def _list(self, kind: Kind, namespace: str) -> list[Manifest]:
        """Objects as they were at most a moment ago; none where the role does not allow to see them."""
        # Many services begin at once: one asks, the others take its answer.
        async with self._asking.setdefault((kind, namespace), asyncio.Lock()):
            return await self._fresh(kind, namespace)

    async def _fresh(self, kind: Kind, namespace: str) -> list[Manifest]:
        now = self._app.clock()
        known = self._read.get((kind, namespace))
        if known is not None and now < known[0]:
            return known[1]
        try:
            found = list(await self._app.kube.list(kind, namespace=namespace or None))
        except Forbidden:
            found = []
        self._read = {key: read for key, read in self._read.items() if now < read[0]}
        self._read[kind, namespace] = (
            now + min(_STALE, max(_FRESH, _FRESH_PER_READING * (self._app.clock() - now))),
            found,
        )
        return found


def _shares_cluster(surge: Surge) -> bool:
    return surge.base is not None and surge.base.ray_cluster == surge.wanted.ray_cluster


def _is_initialized(pod: Manifest, wanted: Resolved) -> bool:
    """Whether KubeRay gives its workers an init container: not every installation does."""
    labels = pod["metadata"].get("labels") or {}
    mine = pod["metadata"]["namespace"] == wanted.cluster_namespace and labels.get("ray.io/node-type") == "worker"
    return mine and bool((pod.get("spec") or {}).get("initContainers"))


def _is_up(view: ClusterView, candidate: Revision) -> bool:
    facts = view.application(candidate.ray_cluster, candidate.application)
    return facts is not None and 0 < facts.target <= facts.running


def _is_same_group(base: Revision, wanted: Resolved, group: str) -> bool:
    return base.ray_cluster == wanted.ray_cluster and base.group["groupName"] == group


def _application(surge: Surge, revision: Revision) -> ApplicationFacts | None:
    return surge.view.application(revision.ray_cluster, revision.application)


def _running(surge: Surge) -> int:
    facts = _application(surge, surge.base) if surge.base else None
    return facts.running if facts else 0


def _replicas(surge: Surge, base: Revision) -> int:
    """Replicas that the serving revision is to have when nobody shares its place."""
    spec = surge.service.spec
    if spec.autoscaling is None:
        return max(1, fixed_replicas(spec))
    facts = _application(surge, base)
    return facts.target if facts else 0


def _held(surge: Surge, group: str, placed: Iterable[PodRequests]) -> Held:
    base = surge.base
    if base is None or base.phase is Phase.REPLACED:
        return Held()
    same = _is_same_group(base, surge.wanted, group)
    if base.cluster_key[0] != surge.wanted.cluster_namespace:
        return Held(_replicas(surge, base))
    facts, cluster = _application(surge, base), surge.view.ray_clusters.get(base.ray_cluster)
    pods = cluster.group_pods(base.group["groupName"]) if cluster else ()
    serving = {pod.name for pod in pods if facts is not None and pod.address in facts.nodes}
    own = worker_of(base.data["pool"], base.data["shape"], base.group)
    return Held(
        replicas=_replicas(surge, base),
        same_pool=same,
        same_limits=base.data["pool"] == surge.wanted.pool.metadata.name,
        same_group=same,
        requests=own.requests,
        nodes=tuple(p.node for p in placed if p.namespace == base.cluster_key[0] and p.name in serving),
    )


def _leaving(cluster: RayClusterView, group: str) -> frozenset[str]:
    """Workers of other groups that nobody needs: Ray's autoscaler takes them away within a minute."""
    applications = list((cluster.applications or {}).values())
    busy = {facts.group for facts in applications if facts.running < facts.demand}
    taken = {address for facts in applications for address in facts.nodes}
    return frozenset(
        pod.name
        for pod in cluster.pods
        if not pod.is_head and pod.group not in (group, *busy) and pod.address not in taken
    )


def _without(quota: QuotaFacts, going: Iterable[PodRequests]) -> QuotaFacts:
    """`quota` once the pods that are going are gone."""
    used: dict[str, Decimal] = dict(quota.used)
    for pod in going:
        asked: Mapping[str, Any] = {**pod.requests, "pods": Decimal(1), "count/pods": Decimal(1)}
        for key in used:
            amount = asked.get(key.removeprefix("requests.").removeprefix("limits."), asked.get(key, Decimal(0)))
            used[key] = max(Decimal(0), used[key] - amount)
    return replace(quota, used=used)
