"""The API server for an operator that may write only while it holds the Lease."""

from collections.abc import Sequence

from modelyard_operator.kube.client import RAY_CLUSTER, Kind, KubeClient, Manifest, kind_of
from modelyard_operator.reconcile.lease import Permit


class LeasedKube:
    """A `KubeClient` that reads always and writes with a permit; without one it raises NotHolder.

    RayClusters take their models along when they go, and their pods cost most: the Lease is read for each write.
    """

    def __init__(self, kube: KubeClient, permit: Permit) -> None:
        self._kube = kube
        self._permit = permit

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest | None:
        return await self._kube.get(kind, name, namespace=namespace)

    async def list(self, kind: Kind, *, namespace: str | None = None, labels: str | None = None) -> Sequence[Manifest]:
        return await self._kube.list(kind, namespace=namespace, labels=labels)

    async def apply(self, manifest: Manifest) -> Manifest:
        await self._allowed(kind_of(manifest))
        return await self._kube.apply(manifest)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        self._permit.check()
        return await self._kube.apply_status(manifest)

    async def delete(self, kind: Kind, name: str, *, namespace: str | None = None, uid: str | None = None) -> bool:
        await self._allowed(kind)
        return await self._kube.delete(kind, name, namespace=namespace, uid=uid)

    async def set_finalizers(self, manifest: Manifest, finalizers: Sequence[str]) -> None:
        self._permit.check()
        await self._kube.set_finalizers(manifest, finalizers)

    async def create(self, manifest: Manifest) -> Manifest:
        await self._allowed(kind_of(manifest))
        return await self._kube.create(manifest)

    async def _allowed(self, kind: Kind) -> None:
        if kind == RAY_CLUSTER:
            await self._permit.confirm()
        else:
            self._permit.check()
