"""Replaces Ray heads whose autoscaler has ended.

A head's containers are never restarted (Ray's autoscaler asks for that), and KubeRay replaces a head only when Ray's
own container ends. With the autoscaler's gone it runs on, is never ready again, and no worker comes or goes.
"""

import logging
from datetime import datetime, timedelta

from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.redis import uses_own_redis
from modelyard_operator.kube.client import POD, SERVING_CLUSTER, Manifest
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import parse_ray_cluster
from modelyard_operator.observed.pods import PodFacts, parse_pods
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.ray_clusters import Standing
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.upkeep import reference

log = logging.getLogger(__name__)

_AGAIN_AFTER = timedelta(minutes=10)
"""Where an autoscaler ends again and again, its head is replaced no more often than this."""


class Heads:
    """Looks after the heads of RayClusters."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._replaced: dict[Key, datetime] = {}
        """When the head of a RayCluster was replaced last."""

    async def tend(self, cluster: ServingCluster, ray_cluster: Manifest, standing: Standing) -> Failure | None:
        """Delete a head that its autoscaler has left, for KubeRay to make another; says what is wrong with it."""
        key = Key(ray_cluster["metadata"]["namespace"], ray_cluster["metadata"]["name"])
        pods = standing.pods_of(key.name)
        head = next((pod for pod in pods if pod.is_head), None)
        if head is None or not head.autoscaler_ended:
            return None
        ended = f"The autoscaler in the head pod {head.name} has ended: no worker comes or goes."
        if not parse_ray_cluster(ray_cluster).redis and any(pod.ready for pod in pods if not pod.is_head):
            return Failure(
                Reason.AUTOSCALER_GONE,
                f"{ended} Without spec.highAvailability another head would start all models anew, so this one is left. "
                f"When that is all right: `kubectl -n {key.namespace} delete pod {head.name}`.",
            )
        if uses_own_redis(cluster.metadata.name, ray_cluster) and not (standing.redis and standing.redis.ready):
            return Failure(Reason.AUTOSCALER_GONE, f"{ended} The head is replaced once the Redis with its state is up.")
        replaced, now = self._replaced.get(key), self._app.clock()
        if replaced is not None and now - replaced < _AGAIN_AFTER:
            return Failure(
                Reason.AUTOSCALER_GONE,
                f"{ended} So had the one before it; the next head comes within ten minutes. Its log says why: "
                f"`kubectl -n {key.namespace} logs {head.name} -c autoscaler`.",
            )
        self._replaced[key] = now
        await self._replace(cluster, key, head)
        return Failure(Reason.AUTOSCALER_GONE, f"{ended} The head is replaced.")

    async def _replace(self, cluster: ServingCluster, key: Key, head: PodFacts) -> None:
        """Delete the pod, if the API server says now that it is as it was seen."""
        live = await self._app.kube.get(POD, head.name, namespace=key.namespace)
        if live is None or not any(pod.autoscaler_ended for pod in parse_pods([live])):
            return
        await self._app.lease.confirm()
        await self._app.kube.delete(POD, head.name, namespace=key.namespace, uid=live["metadata"]["uid"])
        metadata = cluster.metadata
        message = f"The head pod {head.name} of RayCluster {key.name} was deleted, since its autoscaler had ended"
        log.warning("%s", message)
        owner = reference(SERVING_CLUSTER, metadata.namespace, metadata.name, metadata.uid)
        self._app.events.publish(owner, warning=True, reason=Reason.AUTOSCALER_GONE, message=message)

    def forget(self, ray_cluster: Key) -> None:
        """The RayCluster has been put away."""
        self._replaced.pop(ray_cluster, None)
