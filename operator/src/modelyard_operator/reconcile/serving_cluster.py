"""The loop of a ServingCluster: its RayClusters, what runs on them, its status."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.serving_cluster import ServingCluster, ServingClusterStatus
from modelyard_operator.desired.ray_cluster import is_as_asked, newest_ray_cluster
from modelyard_operator.desired.revision import Phase
from modelyard_operator.desired.serve_config import Tenant
from modelyard_operator.kube.client import (
    CRD,
    MODEL_SERVICE,
    NAMESPACE,
    SERVING_CLUSTER,
    Manifest,
)
from modelyard_operator.kube.errors import Forbidden, Invalid, KindAbsent
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import kuberay_trouble
from modelyard_operator.observed.view import ClusterView, RayClusterView
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.guards import Guards
from modelyard_operator.reconcile.heads import Heads
from modelyard_operator.reconcile.pool_division import RayClusterState
from modelyard_operator.reconcile.pool_ledger import Place
from modelyard_operator.reconcile.ray_clusters import RayClusters, Standing
from modelyard_operator.reconcile.reading import InvalidSpec, Unconfirmed, parse
from modelyard_operator.reconcile.redis import RedisKeeper
from modelyard_operator.reconcile.resting import Resting
from modelyard_operator.reconcile.result import Key, Result
from modelyard_operator.reconcile.routes import ROUTES
from modelyard_operator.reconcile.serve_writer import ServeWriter
from modelyard_operator.reconcile.tenants import Tenants, tenants_of
from modelyard_operator.status.conditions import rejected
from modelyard_operator.status.serving_cluster import ClusterFacts, cluster_status

log = logging.getLogger(__name__)

_WRITTEN_S, _MOVING_S, _RESTING_S, _WITHOUT_KUBERAY_S = 0.25, 1.0, 10.0, 5.0
_KUBERAY_STAYS = timedelta(seconds=30)
"""So long it is believed that KubeRay is as it was when all was well: its CRD is too large to be read at each look."""
_LET_GO_AFTER = timedelta(seconds=90)
"""A deletion waits so long for KubeRay to take the RayClusters away; one that is gone must not hold it for ever."""
_NO_REDIS_TO_COME = (Reason.NO_STORAGE_CLASS, Reason.CONFIG_REFUSED)
"""Without Redis no head can start: a first RayCluster is not even made."""


class ServingClusterLoop:
    """Reconciles ServingClusters."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._ray_clusters = RayClusters(app)
        self._redis = RedisKeeper(app)
        self._writer = ServeWriter(app)
        self._guards = Guards(app)
        self._heads = Heads(app)
        self._resting = Resting(app, self._writer)
        self._kuberay_fine: datetime | None = None
        """When KubeRay was last seen to be all right."""

    async def reconcile(self, key: Key) -> Result:
        """One look at the ServingCluster `key`, its RayClusters and their Serve, and one step."""
        if await self._resting.goes_on(key):
            return Result(requeue_after_s=_RESTING_S)
        self._resting.end(key)
        try:
            return await self._look(key, confirmed=False)
        except Unconfirmed:
            return await self._look(key, confirmed=True)
        except KindAbsent:
            self._kuberay_fine = None
            raise

    async def _look(self, key: Key, *, confirmed: bool) -> Result:
        made_of, before = self._resting.made_of(key), self._app.views.get(key)
        manifest = await self._app.seen.get(SERVING_CLUSTER, key.name, namespace=key.namespace)
        if manifest is None:
            self._forget(key)
            return Result(done=True)
        tenants = await tenants_of(self._app, key, confirmed=confirmed)
        if "deletionTimestamp" in manifest["metadata"] and not await self._is_needed(key, tenants):
            tenants.confirm()
            return await self._let_go(key, manifest)
        try:
            cluster = parse(ServingCluster, manifest)
        except InvalidSpec as error:
            await self._reject(key, manifest, str(error))
            return Result()
        trouble = await self._kuberay_trouble()
        if trouble is not None:
            newest = newest_ray_cluster(cluster, self._app.platform)
            await self._show(key, manifest, cluster, tenants, ClusterView(newest, {}, trouble))
            return Result(requeue_after_s=_WITHOUT_KUBERAY_S)
        view = await self._drive(key, cluster, tenants)
        await self._show(key, manifest, cluster, tenants, view)
        if self._writer.wrote_lately(key.namespace, view.ray_clusters):
            return Result(requeue_after_s=_WRITTEN_S)
        if not _is_at_rest(view, tenants):
            return Result(requeue_after_s=_MOVING_S)
        if view == before:
            self._resting.begin(key, made_of, view, tenants)
        return Result(requeue_after_s=_RESTING_S)

    async def _let_go(self, key: Key, manifest: Manifest) -> Result:
        """Deletion: first the RayClusters, then, with the object itself, the Redis that keeps their heads' state."""
        since = datetime.fromisoformat(manifest["metadata"]["deletionTimestamp"])
        try:
            is_clear = await self._ray_clusters.clear(key)
        except KindAbsent:
            is_clear = True
        if not is_clear and self._app.clock() - since <= _LET_GO_AFTER:
            return Result(requeue_after_s=_MOVING_S)
        if not is_clear:
            log.warning("KubeRay has not taken the RayClusters of %s away: let go without them", key)
        self._forget(key)
        return Result(done=True)

    def _forget(self, key: Key) -> None:
        self._app.views.pop(key, None)
        self._app.pools.forget(key)
        self._redis.forget(key)

    async def _kuberay_trouble(self) -> Failure | None:
        now = self._app.clock()
        if self._kuberay_fine is not None and now - self._kuberay_fine < _KUBERAY_STAYS:
            return None
        trouble = kuberay_trouble(await self._app.kube.get(CRD, "rayclusters.ray.io"))
        self._kuberay_fine = now if trouble is None else None
        return trouble

    async def _is_needed(self, key: Key, tenants: Tenants) -> bool:
        """Whether a ServingCluster that is being deleted must wait: services are bound, and its namespace stays."""
        if not tenants.by_key:
            return False
        namespace = await self._app.kube.get(NAMESPACE, key.namespace)
        return namespace is not None and "deletionTimestamp" not in namespace["metadata"]

    async def _drive(self, key: Key, cluster: ServingCluster, tenants: Tenants) -> ClusterView:
        newest = newest_ray_cluster(cluster, self._app.platform)
        needed = {r.ray_cluster for r in tenants.running()}
        standing = await self._ray_clusters.standing(key, {newest, *needed}, confirmed=tenants.confirmed)
        current = newest if newest in needed else _standing_as_asked(cluster, standing) or newest
        needed.add(current)
        redis = await self._redis.keep(key, cluster, standing, tenants)
        views: dict[str, RayClusterView] = {}
        made: list[Manifest] = []
        refused: Failure | None = None
        for name in sorted(needed | standing.manifests.keys()):
            live = standing.manifests.get(name)
            if name != current and self._ray_clusters.is_unused(key, name, tenants):
                if live is not None and not tenants.unread:
                    tenants.confirm()
                    await self._ray_clusters.put_away(key, live)
                    self._writer.forget(Key(key.namespace, name))
                    self._heads.forget(Key(key.namespace, name))
                continue
            if live is None and name != current:
                continue  # Its revisions say what ran there; without it they have nothing to run on and move on.
            if live is None and redis is not None and redis.reason in _NO_REDIS_TO_COME:
                continue
            try:
                applied = await self._ray_clusters.apply(cluster, name, standing, tenants)
            except (Invalid, Forbidden) as error:
                refused = Failure(Reason.CONFIG_REFUSED, f"RayCluster {name} is refused: {error}")
                if live is None:
                    continue
                applied = live
            made.append(applied)
            state = RayClusterState(Place(key, name), tenants, standing.pods_of(name), standing.pools)
            seen = await self._writer.serve(applied, state)
            left = await self._heads.tend(cluster, applied, standing)
            views[name] = replace(
                seen,
                trouble=left or seen.trouble,
                deaths=self._app.deaths.of(key.namespace, name, self._app.clock()),
                serving=self._serving(key, name, seen),
                leaving=standing.leaving_of(name),
            )
        refused = refused or await self._guards.keep(cluster, made)
        self._app.pools.forget(key, keep=views)
        trouble = refused or (views[current].trouble if current in views else redis)
        return ClusterView(current=current, ray_clusters=views, trouble=trouble, redis=redis)

    def _serving(self, key: Key, name: str, seen: RayClusterView) -> Mapping[str, frozenset[str]] | None:
        """Pods with a replica, by application; as they were while Serve cannot be asked."""
        if seen.applications is not None:
            return {application: facts.nodes for application, facts in seen.applications.items()}
        before = self._app.views.get(key)
        known = before.ray_clusters.get(name) if before else None
        return known.serving if known else None

    async def _reject(self, key: Key, manifest: Manifest, message: str) -> None:
        """Say what is wrong with a spec that cannot be read; what runs goes on."""
        old = ServingClusterStatus.model_validate(manifest.get("status") or {})
        generation = manifest["metadata"].get("generation", 0)
        conditions = rejected(old.conditions, message, generation=generation, now=self._app.clock())
        new = old.model_copy(update={"conditions": conditions, "observed_generation": generation})
        await self._write(key, manifest, old, new)

    async def _show(
        self, key: Key, manifest: Manifest, cluster: ServingCluster, tenants: Tenants, view: ClusterView
    ) -> None:
        """Share what was seen, wake whom it concerns, and write the status if it changed."""
        before = self._app.views.get(key)
        self._app.views[key] = view
        if before != view:
            for service, tenant in tenants.by_key.items():
                if before is None or _concerns(before, tenant) != _concerns(view, tenant):
                    self._app.wakeups.wake(MODEL_SERVICE, service)
            if before is None or _ways(before) != _ways(view):
                self._app.wakeups.wake(*ROUTES)
        facts = ClusterFacts(
            view,
            services=len(tenants.by_key),
            deleting=cluster.metadata.deletion_timestamp is not None,
            highly_available=cluster.spec.high_availability,
        )
        new = cluster_status(cluster, facts, self._app.clock())
        await self._write(key, manifest, cluster.status, new)

    async def _write(self, key: Key, manifest: Manifest, old: ServingClusterStatus, new: ServingClusterStatus) -> None:
        if new == old:
            return
        await self._app.kube.apply_status(
            {
                "apiVersion": SERVING_CLUSTER.api_version,
                "kind": SERVING_CLUSTER.kind,
                "metadata": {"name": key.name, "namespace": key.namespace},
                "status": new.model_dump(mode="json", by_alias=True, exclude_none=True),
            }
        )
        self._app.announce(manifest, old.conditions, new.conditions)


def _standing_as_asked(cluster: ServingCluster, standing: Standing) -> str | None:
    """The latest RayCluster that stands as its user asks for it: another release alone makes no other one."""
    made = {n: m["metadata"].get("creationTimestamp", "") for n, m in standing.manifests.items()}
    return max((name for name in made if is_as_asked(name, cluster)), key=lambda name: (made[name], name), default=None)


def _concerns(view: ClusterView, tenant: Tenant) -> tuple[object, ...]:
    """What of a view the loop of a service depends on; what it waits for beside that it looks for by itself."""
    seen = ((revision, view.ray_clusters.get(revision.ray_cluster)) for revision in tenant.revisions)
    below = (cluster and cluster.concerns(r.application, r.group["groupName"]) for r, cluster in seen)
    return view.current, view.trouble, *below


def _ways(view: ClusterView) -> dict[str, object]:
    """All that routes depend on, by RayCluster."""
    return {
        name: ({(pod.name, pod.address) for pod in cluster.ways}, cluster.serving)
        for name, cluster in view.ray_clusters.items()
    }


def _is_at_rest(view: ClusterView, tenants: Tenants) -> bool:
    for cluster in view.ray_clusters.values():
        if cluster.applications is None or cluster.trouble is not None or cluster.leaving:
            return False
        if any(a.status != "RUNNING" or a.running != a.target for a in cluster.applications.values()):
            return False
    return all(r.phase in (Phase.ACTIVE, Phase.STOPPED) for r in tenants.revisions)
