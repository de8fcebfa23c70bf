"""The loop of a ServingCluster: its RayClusters, and the only writer of their Serve configs."""

import base64
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.model_service import ModelService
from modelyard_operator.api.serving_cluster import ServingCluster, ServingClusterStatus
from modelyard_operator.desired.names import (
    CLUSTER_LABEL,
    CLUSTER_NAMESPACE_LABEL,
    DASHBOARD_PORT,
    parse_application_name,
    revision_object_name,
)
from modelyard_operator.desired.ray_cluster import ray_cluster, ray_cluster_name, with_groups
from modelyard_operator.desired.resolution import cluster_key
from modelyard_operator.desired.revision import RUNNING_PHASES, Phase, Revision
from modelyard_operator.desired.routes import active_revision
from modelyard_operator.desired.serve_config import ServeChange, Tenant, fragments, serve_change
from modelyard_operator.desired.worker_group import sized
from modelyard_operator.kube.client import (
    ACCELERATOR_POOL,
    CONTROLLER_REVISION,
    CRD,
    MODEL_SERVICE,
    NAMESPACE,
    POD,
    RAY_CLUSTER,
    SECRET,
    SERVING_CLUSTER,
    Manifest,
)
from modelyard_operator.kube.errors import Forbidden, Invalid
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import RayClusterFacts, kuberay_trouble, parse_ray_cluster
from modelyard_operator.observed.pods import PodFacts, parse_pods
from modelyard_operator.observed.serve import ApplicationFacts, parse_details
from modelyard_operator.observed.view import ClusterView, RayClusterView
from modelyard_operator.ray.client import ConfigRefused, ServeUnreachable
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.reading import InvalidSpec, parse, revisions_of
from modelyard_operator.reconcile.result import Key, Result
from modelyard_operator.reconcile.routes import ROUTES
from modelyard_operator.status.conditions import rejected
from modelyard_operator.status.serving_cluster import ClusterFacts, cluster_status

log = logging.getLogger(__name__)

RENDERED_ANNOTATION = "modelyard.dev/rendered-spec"
"""The RayCluster's spec without groups, as it was rendered when it was made: what runs is restored to this."""

_MOVING_S, _RESTING_S, _WITHOUT_KUBERAY_S = 1.0, 10.0, 5.0
_TAKEN_UP_WITHIN = timedelta(seconds=60)
"""KubeRay writes a RayCluster's first status within this, or it does not run."""


@dataclass(frozen=True)
class _Tenants:
    """The services bound to a ServingCluster and their revisions, from complete LISTs."""

    by_key: Mapping[Key, Tenant]
    unread: bool
    """Whether there are revisions that nobody here can read: what they need is not known, so nothing is put away."""

    @property
    def revisions(self) -> list[Revision]:
        return [revision for tenant in self.by_key.values() for revision in tenant.revisions]

    def running(self) -> list[Revision]:
        return [revision for revision in self.revisions if revision.phase in RUNNING_PHASES]


class ServingClusterLoop:
    """Reconciles ServingClusters."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def reconcile(self, key: Key) -> Result:
        """One look at the ServingCluster `key`, its RayClusters and their Serve, and one step."""
        manifest = await self._app.kube.get(SERVING_CLUSTER, key.name, namespace=key.namespace)
        if manifest is None:
            self._app.views.pop(key, None)
            return Result(done=True)
        tenants = await self._tenants(key)
        if "deletionTimestamp" in manifest["metadata"] and not await self._is_needed(key, tenants):
            self._app.views.pop(key, None)
            return Result(done=True)
        try:
            cluster = parse(ServingCluster, manifest)
        except InvalidSpec as error:
            await self._reject(key, manifest, str(error))
            return Result()
        trouble = kuberay_trouble(await self._app.kube.get(CRD, "rayclusters.ray.io"))
        if trouble is not None:
            await self._show(key, manifest, cluster, tenants, ClusterView(ray_cluster_name(cluster), {}, trouble))
            return Result(requeue_after_s=_WITHOUT_KUBERAY_S)
        view = await self._drive(key, cluster, tenants)
        await self._show(key, manifest, cluster, tenants, view)
        return Result(requeue_after_s=_RESTING_S if _is_at_rest(view, tenants) else _MOVING_S)

    async def _tenants(self, key: Key) -> _Tenants:
        # Revisions first: a service that is made in between is seen without its revisions, never the reverse.
        revisions = await revisions_of(self._app.kube)
        tenants = {}
        # One that is being deleted stays until it is gone: its own loop first waits for the gateways to refuse.
        for manifest in await self._app.kube.list(MODEL_SERVICE):
            here = tuple(r for r in revisions.of(manifest) if r.cluster_key == key)
            try:
                service = parse(ModelService, manifest)
            except InvalidSpec:
                spec, bound = None, False  # Its own loop says what is wrong.
            else:
                spec, bound = service.spec, cluster_key(service, self._app.default_cluster) == key
            if here or bound:
                own = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
                tenants[own] = Tenant(spec, here, self._active_replicas(key, here))
        return _Tenants(tenants, unread=key in revisions.unread)

    def _active_replicas(self, key: Key, revisions: Iterable[Revision]) -> int:
        view, active = self._app.views.get(key), active_revision(revisions)
        if view is None or active is None:
            return 0
        application = view.application(active.ray_cluster, active.application)
        return application.running if application else 0

    async def _is_needed(self, key: Key, tenants: _Tenants) -> bool:
        """Whether a ServingCluster that is being deleted must wait: services are bound, and its namespace stays."""
        if not tenants.by_key:
            return False
        namespace = await self._app.kube.get(NAMESPACE, key.namespace)
        return namespace is not None and "deletionTimestamp" not in namespace["metadata"]

    async def _drive(self, key: Key, cluster: ServingCluster, tenants: _Tenants) -> ClusterView:
        kube = self._app.kube
        labels = f"{CLUSTER_LABEL}={key.name},{CLUSTER_NAMESPACE_LABEL}={key.namespace}"
        standing = {
            m["metadata"]["name"]: m for m in await kube.list(RAY_CLUSTER, namespace=key.namespace, labels=labels)
        }
        pods = _by_ray_cluster(await kube.list(POD, namespace=key.namespace, labels=labels))
        limits = await self._limits()
        current = ray_cluster_name(cluster)
        views: dict[str, RayClusterView] = {}
        refused: Failure | None = None
        for name in sorted({current, *standing, *(r.ray_cluster for r in tenants.running())}):
            live = standing.get(name)
            facts_of_pods = parse_pods(pods.get(name, ()))
            if name != current and self._is_unused(key, name, tenants):
                if live is not None and not tenants.unread:
                    await kube.delete(RAY_CLUSTER, name, namespace=key.namespace, uid=live["metadata"]["uid"])
                    log.info("RayCluster %s/%s is no longer needed: deleted", key.namespace, name)
                continue
            if live is None and name != current:
                continue  # Its revisions say what ran there; without it they have nothing to run on and move on.
            try:
                applied = await self._apply(cluster, name, live, tenants, limits, facts_of_pods)
            except (Invalid, Forbidden) as error:
                refused = Failure(Reason.CONFIG_REFUSED, f"RayCluster {name} is refused: {error}")
                if live is None:
                    continue
                applied = live
            seen = await self._serve(key, applied, facts_of_pods, tenants)
            views[name] = replace(
                seen,
                deaths=self._app.deaths.of(key.namespace, name, self._app.clock()),
                listening=self._listening(key, name, seen),
            )
        trouble = refused or (views[current].trouble if current in views else None)
        return ClusterView(current=current, ray_clusters=views, trouble=trouble)

    def _listening(self, key: Key, name: str, seen: RayClusterView) -> frozenset[str] | None:
        """Workers with a replica; as they were while Serve cannot be asked."""
        if seen.applications is not None:
            return frozenset(node for facts in seen.applications.values() for node in facts.nodes)
        before = self._app.views.get(key)
        known = before.ray_clusters.get(name) if before else None
        return known.listening if known else None

    def _is_unused(self, key: Key, name: str, tenants: _Tenants) -> bool:
        """Whether no revision needs a RayCluster, and the last look saw no application finish its requests there."""
        if any(r.ray_cluster == name and r.phase is not Phase.STOPPED for r in tenants.revisions):
            return False
        view = self._app.views.get(key)
        seen = view.ray_clusters.get(name) if view else None
        return seen is not None and not seen.applications

    async def _limits(self) -> dict[str, int]:
        limits = {}
        for manifest in await self._app.kube.list(ACCELERATOR_POOL):
            try:
                pool = parse(AcceleratorPool, manifest)
            except InvalidSpec as error:
                log.warning("AcceleratorPool %s cannot be read: %s", manifest["metadata"]["name"], error)
            else:
                limits[pool.metadata.name] = pool.spec.max_workers
        return limits

    async def _apply(
        self,
        cluster: ServingCluster,
        name: str,
        live: Manifest | None,
        tenants: _Tenants,
        limits: Mapping[str, int],
        pods: Iterable[PodFacts],
    ) -> Manifest:
        """Make or correct one RayCluster; gives it as it stands."""
        base = ray_cluster(cluster, self._app.platform)
        base["metadata"]["name"] = name
        rendered = json.dumps(base["spec"], sort_keys=True)
        if live is not None:
            kept = (live["metadata"].get("annotations") or {}).get(RENDERED_ANNOTATION, rendered)
            if kept != rendered and not parse_ray_cluster(live).was_ready:
                await self._app.kube.delete(
                    RAY_CLUSTER, name, namespace=cluster.metadata.namespace, uid=live["metadata"]["uid"]
                )
                log.info("RayCluster %s was never ready and would be made otherwise today: made anew", name)
                return live
            base["spec"], rendered = json.loads(kept), kept
        base["metadata"]["annotations"] = {RENDERED_ANNOTATION: rendered}
        groups = {
            r.group["groupName"]: sized(r.group, limits.get(r.data["pool"], r.data["maxWorkers"]))
            for r in tenants.running()
            if r.ray_cluster == name
        }
        left: dict[str, list[str]] = {pod.group: [] for pod in pods if not pod.is_head}
        if tenants.unread and live is not None:
            left |= {group["groupName"]: [] for group in live["spec"].get("workerGroupSpecs") or []}
        else:
            for pod in pods:
                if not pod.is_head and pod.started is None:
                    left[pod.group].append(pod.name)
        wanted = with_groups(base, live, groups.values(), left)
        if live is not None:
            if _contains(live, wanted) and len(live["spec"].get("workerGroupSpecs") or []) == len(
                wanted["spec"]["workerGroupSpecs"]
            ):
                return live
            # Ray's autoscaler writes the groups' sizes: what it wrote since we read must not be undone.
            wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return await self._app.kube.apply(wanted)

    async def _serve(
        self, key: Key, manifest: Manifest, pods: tuple[PodFacts, ...], tenants: _Tenants
    ) -> RayClusterView:
        """Ask Serve what runs, and write its config if something else should."""
        facts = parse_ray_cluster(manifest)
        trouble = self._head_trouble(facts, manifest, pods)
        if trouble is not None or not facts.head_ready or not facts.head_address:
            return RayClusterView(facts, pods, None, trouble)
        token = await self._token(key.namespace, facts.name)
        if token is None:
            return RayClusterView(facts, pods, None)
        client = self._app.serve_clients.client(f"{facts.head_address}:{DASHBOARD_PORT}", token)
        try:
            applications = parse_details(await client.details())
            change = await self._change(tenants, facts.name, applications)
            if change.needed:
                await client.put(change.config)
                log.info(
                    "Serve config of %s written: added %s, changed %s, removed %s, kept %s",
                    facts.name, change.added, change.changed, change.removed, change.kept,
                )  # fmt: skip
        except ServeUnreachable as error:
            return RayClusterView(facts, pods, None, Failure(Reason.SERVE_UNREACHABLE, str(error)))
        except ConfigRefused as error:
            return RayClusterView(facts, pods, applications, Failure(Reason.CONFIG_REFUSED, str(error)))
        return RayClusterView(facts, pods, applications)

    async def _change(self, tenants: _Tenants, name: str, applications: Mapping[str, ApplicationFacts]) -> ServeChange:
        wanted = fragments(tenants.by_key.values(), name)
        # What is going away cannot be asked for again until it is gone.
        leaving = {app for app, facts in applications.items() if facts.config is None and facts.status == "DELETING"}
        wanted = {app: fragment for app, fragment in wanted.items() if app not in leaving}
        standing: dict[str, dict[str, Any] | None] = {
            app: facts.config for app, facts in applications.items() if app not in leaving
        }
        retired = [app for app in standing if app not in wanted and await self._is_retired(tenants, app)]
        return serve_change(wanted, standing, retired)

    async def _is_retired(self, tenants: _Tenants, application: str) -> bool:
        """Whether it is recorded that an application may go: in its revision, or because its service is deleted.

        One that is not ours by its name goes too: the cluster is the operator's. One whose record is lost (its
        service was made again under its name) goes once every gateway is known to lead elsewhere.
        """
        parts = parse_application_name(application)
        if parts is None:
            return True
        namespace, name, revision = parts
        own, kube = Key(namespace, name), self._app.kube
        tenant = tenants.by_key.get(own)
        recorded = [r for r in tenant.revisions if r.name == revision] if tenant else []
        if recorded:
            return recorded[0].phase in (Phase.RETIRED, Phase.STOPPED)
        # Absence from a LIST is not enough to take a model down: ask for this one.
        if await kube.get(MODEL_SERVICE, name, namespace=namespace) is None:
            return True
        record = revision_object_name(name, revision)
        if await kube.get(CONTROLLER_REVISION, record, namespace=namespace) is not None:
            return False
        return self._app.leads_to(own) not in (None, revision)

    async def _token(self, namespace: str, name: str) -> str | None:
        secret = await self._app.kube.get(SECRET, name, namespace=namespace)
        encoded = ((secret or {}).get("data") or {}).get("auth_token")
        return base64.b64decode(encoded).decode() if encoded else None

    def _head_trouble(self, facts: RayClusterFacts, manifest: Manifest, pods: Iterable[PodFacts]) -> Failure | None:
        head = next((pod for pod in pods if pod.is_head), None)
        if head is not None and head.trouble is not None:
            return head.trouble
        if facts.was_ready and not facts.head_ready:
            return Failure(
                Reason.HEAD_GONE,
                f"The head of RayCluster {facts.name} is gone; KubeRay starts another one, "
                "and the models are then started again.",
            )
        made = datetime.fromisoformat(manifest["metadata"]["creationTimestamp"])
        if not facts.seen_by_kuberay and self._app.clock() - made > _TAKEN_UP_WITHIN:
            return Failure(
                Reason.KUBERAY_ABSENT,
                f"KubeRay has not taken up RayCluster {facts.name}: is its operator running? "
                "`kubectl get pods -A -l app.kubernetes.io/component=kuberay-operator` shows it.",
            )
        return None

    async def _reject(self, key: Key, manifest: Manifest, message: str) -> None:
        """Say what is wrong with a spec that cannot be read; what runs goes on."""
        old = ServingClusterStatus.model_validate(manifest.get("status") or {})
        generation = manifest["metadata"].get("generation", 0)
        conditions = rejected(old.conditions, message, generation=generation, now=self._app.clock())
        new = old.model_copy(update={"conditions": conditions, "observed_generation": generation})
        await self._write(key, manifest, old, new)

    async def _show(
        self, key: Key, manifest: Manifest, cluster: ServingCluster, tenants: _Tenants, view: ClusterView
    ) -> None:
        """Share what was seen, wake whom it concerns, and write the status if it changed."""
        before = self._app.views.get(key)
        self._app.views[key] = view
        if before != view:
            for service in tenants.by_key:
                self._app.wakeups.wake(MODEL_SERVICE, service)
            if before is None or _ways(before) != _ways(view):
                self._app.wakeups.wake(*ROUTES)
        facts = ClusterFacts(
            view, services=len(tenants.by_key), deleting=cluster.metadata.deletion_timestamp is not None
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


def _by_ray_cluster(pods: Iterable[Manifest]) -> dict[str, list[Manifest]]:
    found: dict[str, list[Manifest]] = {}
    for pod in pods:
        found.setdefault(pod["metadata"]["labels"].get("ray.io/cluster", ""), []).append(pod)
    return found


def _ways(view: ClusterView) -> set[tuple[str, str]]:
    return {(pod.name, pod.address) for cluster in view.ray_clusters.values() for pod in cluster.ways}


def _is_at_rest(view: ClusterView, tenants: _Tenants) -> bool:
    for cluster in view.ray_clusters.values():
        if cluster.applications is None or cluster.trouble is not None:
            return False
        if any(a.status != "RUNNING" or a.running != a.target for a in cluster.applications.values()):
            return False
    return all(r.phase in (Phase.ACTIVE, Phase.STOPPED) for r in tenants.revisions)


def _contains(live: Any, wanted: Any) -> bool:
    """Whether `live` already says all that `wanted` says; what the API server added does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(k in live and _contains(live[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(_contains, live, wanted))
    return bool(live == wanted)
