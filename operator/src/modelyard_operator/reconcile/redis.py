"""Makes, corrects and puts away the Redis of a ServingCluster."""

import logging
import secrets
from datetime import datetime, timedelta

from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.names import redis_name
from modelyard_operator.desired.ray_cluster import ray_cluster_name
from modelyard_operator.desired.redis import (
    is_of,
    redis_claim,
    redis_secret,
    redis_service,
    redis_stateful_set,
    uses_own_redis,
    wants_own_redis,
)
from modelyard_operator.kube.client import (
    CLAIM,
    SECRET,
    SERVICE,
    SERVING_CLUSTER,
    STATEFUL_SET,
    Kind,
    Manifest,
)
from modelyard_operator.kube.errors import Forbidden, Invalid
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import parse_ray_cluster
from modelyard_operator.observed.redis import redis_trouble
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.ray_clusters import Standing
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.tenants import Tenants
from modelyard_operator.reconcile.upkeep import reference

log = logging.getLogger(__name__)

_LOOKED_AT_EVERY = timedelta(seconds=30)
"""How soon an edit is undone while Redis is up; a pod that goes is seen at once."""
_UP_WITHIN = timedelta(seconds=30)
"""How long it may take at first before that is told."""
_PUT_AWAY = (STATEFUL_SET, SERVICE, CLAIM)
"""The Secret stays as long as the ServingCluster: the operator deletes no Secrets."""


class _NotOurs(Exception):
    """An object of the name of ours belongs to somebody else."""


class RedisKeeper:
    """Keeps the Redis that the RayClusters of a ServingCluster need."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._looked: dict[Key, tuple[str, datetime]] = {}
        """For what, and when, a Redis that is up was last compared with what it should be."""
        self._absent: set[Key] = set()
        """ServingClusters whose Redis is known to be put away."""

    async def keep(self, key: Key, cluster: ServingCluster, standing: Standing, tenants: Tenants) -> Failure | None:
        """Make or correct it where one is needed, put it away where none is; gives what is wrong with it."""
        current = ray_cluster_name(cluster)
        made_anew = wants_own_redis(cluster) and current not in standing.manifests
        if not made_anew and not any(uses_own_redis(key.name, each) for each in standing.manifests.values()):
            await self._put_away(key, cluster, tenants)
            return None
        self._absent.discard(key)
        now = self._app.clock()
        up = standing.redis is not None and standing.redis.ready
        looked_for, looked_at = self._looked.get(key, ("", now))
        if up and looked_for == current and now - looked_at < _LOOKED_AT_EVERY:
            return None
        try:
            claim = await self._make_or_correct(key, cluster)
        except (Invalid, Forbidden, _NotOurs) as error:
            return Failure(Reason.CONFIG_REFUSED, f"The Redis that keeps the state of the Ray head: {error}")
        if up:
            self._looked[key] = current, now
        was_up = any(parse_ray_cluster(each).was_ready for each in standing.manifests.values())
        made = datetime.fromisoformat(claim["metadata"]["creationTimestamp"])
        return redis_trouble(claim, standing.redis, expected=was_up or now - made > _UP_WITHIN)

    def forget(self, key: Key) -> None:
        """The ServingCluster is gone."""
        self._looked.pop(key, None)
        self._absent.discard(key)

    async def _make_or_correct(self, key: Key, cluster: ServingCluster) -> Manifest:
        """Gives the claim as it stands."""
        claim = await self._made_once(cluster, CLAIM, redis_claim(cluster))
        secret = await self._made_once(cluster, SECRET, redis_secret(cluster, secrets.token_hex(32)))
        live = await self._ours(cluster, STATEFUL_SET)
        uid = secret["metadata"]["uid"]
        await self._correct(cluster, live, redis_stateful_set(cluster, self._app.platform, live, uid))
        await self._correct(cluster, await self._ours(cluster, SERVICE), redis_service(cluster))
        return claim

    async def _made_once(self, cluster: ServingCluster, kind: Kind, wanted: Manifest) -> Manifest:
        return await self._ours(cluster, kind) or await self._app.kube.create(wanted)

    async def _correct(self, cluster: ServingCluster, live: Manifest | None, wanted: Manifest) -> None:
        metadata = cluster.metadata
        owner = reference(SERVING_CLUSTER, metadata.namespace, metadata.name, metadata.uid)
        await self._app.upkeep.keep(wanted, live, owner=owner)

    async def _ours(self, cluster: ServingCluster, kind: Kind) -> Manifest | None:
        name, namespace = redis_name(cluster.metadata.name), cluster.metadata.namespace
        found = await self._app.kube.get(kind, name, namespace=namespace)
        if found is not None and not is_of(cluster, found):
            raise _NotOurs(
                f"{kind.kind} {namespace}/{name} belongs to somebody else: delete it, or give the ServingCluster "
                "another name."
            )
        return found

    async def _put_away(self, key: Key, cluster: ServingCluster, tenants: Tenants) -> None:
        if key in self._absent:
            return
        for kind in _PUT_AWAY:
            found = await self._app.kube.get(kind, redis_name(key.name), namespace=key.namespace)
            if found is not None and is_of(cluster, found):
                tenants.confirm()
                await self._app.upkeep.put_away(found)
                log.info("%s %s/%s is no longer needed: deleted", kind.kind, key.namespace, redis_name(key.name))
        self._absent.add(key)
