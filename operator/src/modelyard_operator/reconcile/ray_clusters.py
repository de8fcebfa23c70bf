"""The RayClusters of a ServingCluster: which stand, and how they are made, corrected and put away."""

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from modelyard_operator.api.accelerator_pool import AcceleratorPool, AcceleratorPoolSpec
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.names import CLUSTER_LABEL, CLUSTER_NAMESPACE_LABEL
from modelyard_operator.desired.pool_shares import Group
from modelyard_operator.desired.ray_cluster import ray_cluster, with_groups, without_sizes
from modelyard_operator.desired.redis import uses_own_redis
from modelyard_operator.desired.revision import Phase, Revision
from modelyard_operator.desired.worker_group import sized
from modelyard_operator.kube.client import ACCELERATOR_POOL, POD, RAY_CLUSTER, SERVING_CLUSTER, Manifest
from modelyard_operator.kube.store import Reader
from modelyard_operator.observed.kuberay import parse_ray_cluster
from modelyard_operator.observed.pods import PodFacts, parse_leaving, parse_pods
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.reading import InvalidSpec, parse
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.tenants import Tenants
from modelyard_operator.reconcile.upkeep import reference
from modelyard_operator.reconcile.watched import MANAGED

log = logging.getLogger(__name__)

RENDERED_ANNOTATION = "modelyard.dev/rendered-spec"
"""The RayCluster's spec without groups, as it was rendered when it was made: what runs is restored to this."""

CLEANUP_ANNOTATION = "ray.io/gcs-ft-deletion-timeout"
"""How long KubeRay's Job may take to clear a deleted RayCluster's state from Redis, in seconds of text."""
CLEANUP_S, NO_CLEANUP_S = "60", "1"


@dataclass(frozen=True)
class Standing:
    """What stands of a ServingCluster, by the name of the RayCluster, from complete LISTs."""

    manifests: Mapping[str, Manifest]
    pods: Mapping[str, tuple[PodFacts, ...]]
    leaving: Mapping[str, tuple[PodFacts, ...]]
    """Workers on their way out that still serve."""
    pools: Mapping[str, AcceleratorPoolSpec]
    """The AcceleratorPools that can be read."""

    def pods_of(self, name: str) -> tuple[PodFacts, ...]:
        """The pods of one RayCluster."""
        return self.pods.get(name, ())

    def leaving_of(self, name: str) -> tuple[PodFacts, ...]:
        """The workers of one RayCluster that are on their way out and still serve."""
        return self.leaving.get(name, ())

    @property
    def redis(self) -> PodFacts | None:
        """The pod of the operator's own Redis, which belongs to no RayCluster."""
        return next(iter(self.pods_of("")), None)


class RayClusters:
    """Makes, corrects and puts away RayClusters."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def standing(self, key: Key, needed: Collection[str], *, confirmed: bool) -> Standing:
        """What stands of the ServingCluster `key`; those `needed` are found whatever their labels.

        As seen last, or `confirmed` by complete LISTs.
        """
        kube = self._app.kube if confirmed else self._app.seen
        labels = f"{MANAGED},{CLUSTER_LABEL}={key.name},{CLUSTER_NAMESPACE_LABEL}={key.namespace}"
        listed = await kube.list(RAY_CLUSTER, namespace=key.namespace, labels=labels)
        manifests = {manifest["metadata"]["name"]: manifest for manifest in listed}
        for name in set(needed) - manifests.keys():
            unlabelled = await kube.get(RAY_CLUSTER, name, namespace=key.namespace)
            if unlabelled is not None:
                manifests[name] = unlabelled
        pods = _by_ray_cluster(await kube.list(POD, namespace=key.namespace, labels=labels))
        return Standing(
            manifests=manifests,
            pods={name: parse_pods(members) for name, members in pods.items()},
            leaving={name: parse_leaving(members) for name, members in pods.items()},
            pools=await self._pools(kube),
        )

    def is_unused(self, key: Key, name: str, tenants: Tenants) -> bool:
        """Whether no revision needs a RayCluster, and the last look saw no application finish its requests there."""
        if any(r.ray_cluster == name and r.phase is not Phase.STOPPED for r in tenants.revisions):
            return False
        view = self._app.views.get(key)
        seen = view.ray_clusters.get(name) if view else None
        return seen is not None and not seen.applications

    async def put_away(self, key: Key, live: Manifest) -> None:
        """Delete a RayCluster that nothing needs any more."""
        if await self._app.upkeep.put_away(live):
            log.info("RayCluster %s/%s is no longer needed: deleted", key.namespace, live["metadata"]["name"])

    async def clear(self, key: Key) -> bool:
        """Delete all RayClusters, before their Redis goes; whether none is left.

        Where the operator's own Redis goes with them there is nothing to clear in it, and in a namespace that is being
        deleted KubeRay's Job could not even be made: it is told not to wait for it.
        """
        labels = f"{CLUSTER_LABEL}={key.name},{CLUSTER_NAMESPACE_LABEL}={key.namespace}"
        left = await self._app.kube.list(RAY_CLUSTER, namespace=key.namespace, labels=labels)
        for live in left:
            annotations = live["metadata"].get("annotations") or {}
            if uses_own_redis(key.name, live) and annotations.get(CLEANUP_ANNOTATION) != NO_CLEANUP_S:
                told = {**annotations, CLEANUP_ANNOTATION: NO_CLEANUP_S}
                fields = ("name", "namespace", "labels", "ownerReferences", "uid", "resourceVersion")
                kept = {name: live["metadata"][name] for name in fields if name in live["metadata"]}
                spoken = {name: value for name, value in live.items() if name != "status"}
                await self._app.kube.apply({**spoken, "metadata": {**kept, "annotations": told}})
            await self._app.upkeep.put_away(live)
        return not left

    async def apply(self, cluster: ServingCluster, name: str, standing: Standing, tenants: Tenants) -> Manifest:
        """Make or correct one RayCluster; gives it as it stands."""
        live, pods = standing.manifests.get(name), standing.pods_of(name)
        base = ray_cluster(cluster, self._app.platform)
        base["metadata"]["name"] = name
        rendered = json.dumps(base["spec"], sort_keys=True)
        if live is not None:
            kept = self._rendered(live) or rendered
            if kept != rendered and not parse_ray_cluster(live).was_ready:
                tenants.confirm()
                if await self._app.upkeep.put_away(live):
                    log.info("RayCluster %s was never ready and would be made otherwise today: made anew", name)
                return live
            base["spec"], rendered = json.loads(kept), kept
        base["metadata"]["annotations"] = {RENDERED_ANNOTATION: rendered}
        leaving = standing.leaving_of(name)
        if "gcsFaultToleranceOptions" in base["spec"]:
            base["metadata"]["annotations"][CLEANUP_ANNOTATION] = CLEANUP_S
        groups = {
            r.group["groupName"]: _roomy(sized(r.group, self._group_size(r, standing)), pods, leaving)
            for r in tenants.running()
            if r.ray_cluster == name
        }
        left: dict[str, list[str]] = {pod.group: [] for pod in (*pods, *leaving) if not pod.is_head}
        if tenants.unread and live is not None:
            left |= {group["groupName"]: [] for group in live["spec"].get("workerGroupSpecs") or []}
        else:
            for pod in pods:
                if not pod.is_head and pod.started is None:
                    left[pod.group].append(pod.name)
        wanted = with_groups(base, self._as_kept(live), groups.values(), left)
        steady = without_sizes(wanted)
        if live is not None:
            if _takes_away(live, wanted):
                tenants.confirm()
            # Ray's autoscaler writes the groups' sizes: what it wrote since we read must not be undone.
            wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        metadata = cluster.metadata
        owner = reference(SERVING_CLUSTER, metadata.namespace, metadata.name, metadata.uid)
        return await self._app.upkeep.keep(wanted, live, owner=owner, steady=steady)

    def _as_kept(self, live: Manifest | None) -> Manifest | None:
        """`live` with its groups as this process wrote them, but the sizes that Ray gave them.

        A group that nobody wants any more stays as it stands until its last pod is gone: not as somebody else left it.
        """
        if live is None:
            return None
        metadata = live["metadata"]
        known = self._app.upkeep.kept(RAY_CLUSTER, metadata["namespace"], metadata["name"]) or live
        kept = {group["groupName"]: group for group in known["spec"].get("workerGroupSpecs") or []}
        groups = [{**group, **kept.get(group["groupName"], {})} for group in live["spec"].get("workerGroupSpecs") or []]
        return {**live, "spec": {**live["spec"], "workerGroupSpecs": groups}}

    def _rendered(self, live: Manifest) -> str | None:
        """What `live` was rendered to: as this process knows it, for somebody else may have edited the annotation."""
        metadata = live["metadata"]
        known = self._app.upkeep.kept(RAY_CLUSTER, metadata["namespace"], metadata["name"]) or live
        text: str | None = (known["metadata"].get("annotations") or {}).get(RENDERED_ANNOTATION)
        try:
            return text if isinstance(json.loads(text or ""), dict) else None
        except ValueError:
            return None

    def _group_size(self, revision: Revision, standing: Standing) -> int:
        """The most workers of a revision's group."""
        pool, group = str(revision.data["pool"]), str(revision.group["groupName"])
        spec = standing.pools.get(pool)
        if spec is None:
            return int(revision.data["maxWorkers"])
        if spec.limits is None:
            return int(spec.max_workers)
        size = self._app.pools.group_size(pool, Group(revision.cluster_key[0], revision.ray_cluster, group))
        return size if size is not None else _standing_size(standing.manifests.get(revision.ray_cluster), group)

    async def _pools(self, kube: Reader) -> dict[str, AcceleratorPoolSpec]:
        pools = {}
        for manifest in await kube.list(ACCELERATOR_POOL):
            try:
                pool = parse(AcceleratorPool, manifest)
            except InvalidSpec as error:
                log.warning("AcceleratorPool %s cannot be read: %s", manifest["metadata"]["name"], error)
            else:
                pools[pool.metadata.name] = pool.spec
        return pools


def _standing_size(live: Manifest | None, group: str) -> int:
    groups = (live or {}).get("spec", {}).get("workerGroupSpecs") or []
    return next((int(each["maxReplicas"]) for each in groups if each["groupName"] == group), 0)


def _roomy(group: Manifest, pods: Iterable[PodFacts], leaving: Iterable[PodFacts]) -> Manifest:
    """`group` with room for the workers that it has.

    KubeRay counts a worker that leaves until it is gone: without room its replacement could not come first. And where
    a limit was lowered Ray would take down workers that are busy; so it falls as they go.
    """
    name = group["groupName"]
    going = sum(pod.group == name for pod in leaving)
    there = going + sum(pod.group == name and pod.started is not None for pod in pods)
    return {**group, "maxReplicas": max(group["maxReplicas"] + going, there)}


def _takes_away(live: Manifest, wanted: Manifest) -> bool:
    """Whether a group would go, or pods of one be put down for deletion."""
    left = {group["groupName"]: group.get("scaleStrategy") for group in wanted["spec"]["workerGroupSpecs"]}
    standing = live["spec"].get("workerGroupSpecs") or []
    return any(
        group["groupName"] not in left or left[group["groupName"]] != group.get("scaleStrategy") for group in standing
    )


def _by_ray_cluster(pods: Iterable[Manifest]) -> dict[str, list[Manifest]]:
    found: dict[str, list[Manifest]] = {}
    for pod in pods:
        found.setdefault(pod["metadata"]["labels"].get("ray.io/cluster", ""), []).append(pod)
    return found
