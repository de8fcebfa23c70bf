"""Brings the shares of the pools to one RayCluster: notes what it has, divides anew, wakes whom that concerns."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard_operator.api.accelerator_pool import AcceleratorPoolSpec
from modelyard_operator.desired.names import parse_application_name
from modelyard_operator.desired.pool_demand import Part, demand, leftovers, limits_of, pools_of_groups, within_shares
from modelyard_operator.desired.pool_shares import Demand, Group
from modelyard_operator.desired.revision import RUNNING_PHASES, Revision
from modelyard_operator.kube.client import ACCELERATOR_POOL, MODEL_SERVICE, SERVING_CLUSTER
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.pool_ledger import Place
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.tenants import Tenants


@dataclass(frozen=True)
class RayClusterState:
    """One RayCluster as its loop sees it now."""

    place: Place
    tenants: Tenants
    pods: tuple[PodFacts, ...]
    pools: Mapping[str, AcceleratorPoolSpec]

    @property
    def revisions(self) -> list[Revision]:
        """Those that are on this RayCluster."""
        return [r for r in self.tenants.revisions if r.ray_cluster == self.place.ray_cluster]


class PoolDivision:
    """Divides the pools among all RayClusters whenever one of them is looked at."""

    def __init__(self, app: App) -> None:
        self._app = app

    def divide(
        self,
        state: RayClusterState,
        wanted: Mapping[str, dict[str, Any]],
        applications: Mapping[str, ApplicationFacts],
    ) -> dict[str, dict[str, Any]]:
        """`wanted` as far as the shares of its pools go."""
        self._note(state, wanted, applications)
        shares = {
            r.application: self._app.pools.share(r.data["pool"], r.application)
            for r in state.revisions
            if r.data["pool"] in state.pools and state.pools[r.data["pool"]].limits is not None
        }
        return within_shares(wanted, applications, shares)

    def note_unseen(self, state: RayClusterState, wanted: Mapping[str, dict[str, Any]]) -> None:
        """Serve cannot be asked: what was noted of it stands; where nothing was, it is taken to have all it may."""
        if not self._app.pools.knows(state.place):
            self._note(state, wanted, None)

    def _note(
        self,
        state: RayClusterState,
        wanted: Mapping[str, dict[str, Any]],
        applications: Mapping[str, ApplicationFacts] | None,
    ) -> None:
        ledger, now = self._app.pools, self._app.clock()
        parts = _parts(state, wanted, applications)
        pools = {*parts, *(r.data["pool"] for r in state.revisions)} & state.pools.keys()
        limited = {pool for pool in pools if state.pools[pool].limits is not None}
        before = {pool: ledger.usage(pool) for pool in limited}
        ledger.note(state.place, parts)
        for pool in pools:
            touched = ledger.decide(pool, limits_of(state.pools[pool]), now)
            if pool in limited:
                self._wake(state.place, pool, touched, used_differently=before[pool] != ledger.usage(pool))

    def _wake(self, place: Place, pool: str, touched: Collection[Place], *, used_differently: bool) -> None:
        wakeups = self._app.wakeups
        for other in touched:
            if other.cluster != place.cluster:
                wakeups.wake(SERVING_CLUSTER, other.cluster)
        if touched or used_differently:
            wakeups.wake(ACCELERATOR_POOL, Key("", pool))
            for application in self._app.pools.bound(pool):
                parts = parse_application_name(application)
                if parts is not None:
                    wakeups.wake(MODEL_SERVICE, Key(parts[0], parts[1]))


def _parts(
    state: RayClusterState,
    wanted: Mapping[str, dict[str, Any]],
    applications: Mapping[str, ApplicationFacts] | None,
) -> dict[str, Part]:
    namespace, name = state.place.cluster.namespace, state.place.ray_cluster
    demands: dict[str, list[Demand]] = {}
    for service in state.tenants.by_key.values():
        for revision in service.revisions:
            if revision.ray_cluster != name:
                continue
            fragment = wanted.get(revision.application) if revision.phase in RUNNING_PHASES else None
            found = demand(revision, fragment, applications, service.active_replicas)
            if found is not None:
                demands.setdefault(str(revision.data["pool"]), []).append(found)
    standing = [pod for pod in state.pods if not pod.is_head]
    pools = pools_of_groups({pod.group for pod in standing}, state.revisions, state.pools)
    addresses = {pod.address: Group(namespace, name, pod.group) for pod in standing if pod.address}
    for one in leftovers(applications or {}, state.revisions, addresses):
        if one.group.name in pools:
            demands.setdefault(pools[one.group.name], []).append(one)
    workers: dict[str, Counter[Group]] = {}
    for pod in standing:
        if pod.group in pools:
            workers.setdefault(pools[pod.group], Counter())[Group(namespace, name, pod.group)] += 1
    return {pool: Part(tuple(demands.get(pool, ())), workers.get(pool, {})) for pool in {*demands, *workers}}
