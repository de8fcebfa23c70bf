"""ServingClusters at rest: whether a look could find anything that the last one did not.

A look at a ServingCluster works out its RayClusters and a Serve config of all its services. While nothing of what that
is made of has changed, and Ray Serve answers what it answered, it comes to the same: Ray Serve is asked, and no more.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelyard_operator.desired.names import CLUSTER_LABEL
from modelyard_operator.kube.client import ACCELERATOR_POOL, MODEL_SERVICE, SERVING_CLUSTER
from modelyard_operator.observed.view import ClusterView
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.serve_writer import ServeWriter
from modelyard_operator.reconcile.tenants import Tenants
from modelyard_operator.reconcile.watched import CHILDREN

_AT_MOST = timedelta(seconds=30)
"""So often all is looked at even so: KubeRay's CRD, guards and Redis are not watched, and some things pass."""


@dataclass(frozen=True)
class _Rest:
    """A look that found everything as it should be, and as it was before."""

    of: object
    """What it was made of."""
    at: datetime
    view: ClusterView


class Resting:
    """Knows which ServingClusters need no look now."""

    def __init__(self, app: App, writer: ServeWriter) -> None:
        self._app = app
        self._writer = writer
        self._rests: dict[Key, _Rest] = {}

    def made_of(self, key: Key) -> object:
        """All that a look depends on beside Ray Serve and the time; what equals nothing while it is not known.

        To be taken before the look: what changes while it is under way is not in it.
        """
        store = self._app.store
        cluster = store.find(SERVING_CLUSTER, key.name, key.namespace)
        kinds = (SERVING_CLUSTER, ACCELERATOR_POOL, MODEL_SERVICE, *CHILDREN)
        if cluster is None or not all(store.is_complete(kind) for kind in kinds):
            return object()
        return (
            cluster["metadata"]["resourceVersion"],
            store.changes(ACCELERATOR_POOL),
            store.changed(MODEL_SERVICE, "", str(key)),
            *(store.changed(kind, CLUSTER_LABEL, key.name) for kind in CHILDREN),
            self._app.records.changes,
            self._app.pools.changes,
        )

    async def goes_on(self, key: Key) -> bool:
        """Whether the ServingCluster `key` is still as its last look found it."""
        rest = self._rests.get(key)
        if rest is None or self._app.views.get(key) is not rest.view or self.made_of(key) != rest.of:
            return False
        if self._app.clock() - rest.at >= _AT_MOST:
            return False
        return await self._writer.hears_the_same(key.namespace, rest.view.ray_clusters)

    def begin(self, key: Key, of: object, view: ClusterView, tenants: Tenants) -> None:
        """A look found the ServingCluster at rest, as the look before it did; `of` is from before the look."""
        bound = {_key(service) for service in self._app.store.having(MODEL_SERVICE, str(key))}
        # A service that is leaving for another ServingCluster is not among what is compared.
        all_bound = tenants.by_key.keys() <= bound
        retried = view.trouble or view.redis or any(cluster.refused for cluster in view.ray_clusters.values())
        if all_bound and not retried:
            self._rests[key] = _Rest(of, self._app.clock(), view)

    def end(self, key: Key) -> None:
        """The next look must find out anew."""
        self._rests.pop(key, None)


def _key(service: dict[str, dict[str, str]]) -> Key:
    return Key(service["metadata"]["namespace"], service["metadata"]["name"])
