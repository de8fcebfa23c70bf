"""What guards the Ray pods of a ServingCluster: PodDisruptionBudgets and a NetworkPolicy."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.disruption_budgets import disruption_budgets
from modelyard_operator.desired.names import CLUSTER_LABEL, CLUSTER_NAMESPACE_LABEL, digest
from modelyard_operator.desired.network_policies import network_policy
from modelyard_operator.desired.redis import redis_disruption_budgets
from modelyard_operator.kube.client import DISRUPTION_BUDGET, NETWORK_POLICY, SERVING_CLUSTER, Kind, Manifest
from modelyard_operator.kube.errors import Forbidden, Invalid
from modelyard_operator.observed.failures import Failure
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.upkeep import reference

_LOOK_AGAIN = timedelta(seconds=30)
"""They are not watched: what somebody else did to one is undone within this."""


class Guards:
    """Keeps the guards of ServingClusters."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._kept: dict[tuple[str, Kind], tuple[str, datetime]] = {}
        """What was last kept of a ServingCluster (by uid), and when: at rest nothing is asked in between."""

    async def keep(self, cluster: ServingCluster, ray_clusters: Iterable[Manifest]) -> Failure | None:
        """Keep them as they should be; what is wrong where one is refused, for models serve without them too."""
        standing = list(ray_clusters)
        budgets = [budget for manifest in standing for budget in disruption_budgets(manifest)]
        budgets += redis_disruption_budgets(cluster, standing)
        policies = [network_policy(cluster, self._app.peers)] if self._app.settings.network_policies else []
        refused = None
        for kind, wanted in ((NETWORK_POLICY, policies), (DISRUPTION_BUDGET, budgets)):
            place, now = (cluster.metadata.uid, kind), self._app.clock()
            content, since = self._kept.get(place, ("", now))
            if content == digest(wanted) and now - since < _LOOK_AGAIN:
                continue
            try:
                await self._keep(cluster, kind, wanted)
                self._kept[place] = digest(wanted), now
            except (Invalid, Forbidden) as error:
                refused = refused or Failure(
                    Reason.CONFIG_REFUSED, f"A {kind.kind} of its Ray pods is refused: {error}"
                )
        return refused

    async def _keep(self, cluster: ServingCluster, kind: Kind, wanted: list[Manifest]) -> None:
        """Make and correct those that are wanted, and delete the cluster's others of the kind."""
        kube, upkeep, metadata = self._app.kube, self._app.upkeep, cluster.metadata
        labels = f"{CLUSTER_LABEL}={metadata.name},{CLUSTER_NAMESPACE_LABEL}={metadata.namespace}"
        listed = await kube.list(kind, namespace=metadata.namespace, labels=labels)
        standing = {manifest["metadata"]["name"]: manifest for manifest in listed}
        owner = reference(SERVING_CLUSTER, metadata.namespace, metadata.name, metadata.uid)
        for manifest in wanted:
            await upkeep.keep(manifest, standing.pop(manifest["metadata"]["name"], None), owner=owner)
        for manifest in standing.values():
            await upkeep.put_away(manifest)
