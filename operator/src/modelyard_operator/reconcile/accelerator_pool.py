"""The loop of an AcceleratorPool: it owns nothing; it tells which nodes and services the pool has."""

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.kube.client import ACCELERATOR_POOL, NODE
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.reading import parse, services_of
from modelyard_operator.reconcile.result import Key, Result
from modelyard_operator.status.accelerator_pool import pool_status


class AcceleratorPoolLoop:
    """Reconciles AcceleratorPools."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def reconcile(self, key: Key) -> Result:
        """Count the pool's nodes and services. A pool may go at any time: revisions carry what they took from it."""
        manifest = await self._app.kube.get(ACCELERATOR_POOL, key.name)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return Result(done=True)
        pool = parse(AcceleratorPool, manifest)
        services = await services_of(self._app.kube)
        users = sum(service.spec.accelerator.pool == key.name for service in services)
        new = pool_status(pool, await self._app.kube.list(NODE), services=users, now=self._app.clock())
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
        return Result(requeue_after_s=60.0)
