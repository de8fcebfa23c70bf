"""The loop of an AcceleratorPool: it owns nothing; it tells which nodes and services the pool has."""

from datetime import datetime

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.desired.revision import RUNNING_PHASES
from modelyard_operator.kube.client import ACCELERATOR_POOL, NODE, SERVING_CLUSTER
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.pool_ledger import Place
from modelyard_operator.reconcile.reading import parse, revisions_of, services_of
from modelyard_operator.reconcile.result import Key, Result
from modelyard_operator.status.accelerator_pool import PoolUse, pool_status


class AcceleratorPoolLoop:
    """Reconciles AcceleratorPools."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def reconcile(self, key: Key) -> Result:
        """Count the pool's nodes and services. A pool may go at any time: revisions carry what they took from it."""
        manifest = await self._app.seen.get(ACCELERATOR_POOL, key.name)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return Result(done=True)
        pool = parse(AcceleratorPool, manifest)
        services = await services_of(self._app.seen)
        users = sum(service.spec.accelerator.pool == key.name for service in services)
        nodes, now = await self._app.kube.list(NODE), self._app.clock()
        await self._expect(key.name, now)
        use = self._app.pools.usage(key.name) if self._app.pools.is_complete(key.name, now) else None
        told = PoolUse(use.workers, use.namespaces) if use is not None else None
        new = pool_status(pool, nodes, services=users, use=told, now=now)
        if new != pool.status:
            await self._app.kube.apply_status(
                {
                    "apiVersion": ACCELERATOR_POOL.api_version,
                    "kind": ACCELERATOR_POOL.kind,
                    "metadata": {"name": key.name},
                    "status": new.model_dump(mode="json", by_alias=True, exclude_none=True),
                }
            )
            self._app.announce(manifest, pool.status.conditions, new.conditions)
        return Result(requeue_after_s=60.0 if told is not None else 2.0)

    async def _expect(self, pool: str, now: datetime) -> None:
        """Find out who has something of the pool, once: all that comes later notes itself before it takes anything."""
        if self._app.pools.is_expecting(pool):
            return
        revisions = await revisions_of(self._app.kube)
        running = [r for each in revisions.by_owner.values() for r in each if r.phase in RUNNING_PHASES]
        places = {Place(Key(*r.cluster_key), r.ray_cluster) for r in running if r.data["pool"] == pool}
        self._app.pools.expect(pool, places, now)
        for place in places:
            self._app.wakeups.wake(SERVING_CLUSTER, place.cluster)
