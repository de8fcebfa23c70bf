"""The loop of a ModelService: resolve, take the next steps of its rollout, tell where it stands.

It never writes to Ray: the loop of its ServingCluster does, from the revisions that this one records.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.model_service import ColdStart, ModelService, ModelServiceStatus
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.names import SERVE_PORT, public_path
from modelyard_operator.desired.namespaces import asks_labels, refusal
from modelyard_operator.desired.ray_cluster import is_as_asked, newest_ray_cluster
from modelyard_operator.desired.resolution import Rejection, Resolved, cluster_key, resolve, spec_hash
from modelyard_operator.desired.revision import DOWN_PHASES, Phase, Revision
from modelyard_operator.desired.rollout import Situation, Steps, in_place_of, next_steps
from modelyard_operator.desired.scaling import is_stopped, surge_replicas
from modelyard_operator.kube.client import (
    ACCELERATOR_POOL,
    MODEL_SERVICE,
    NAMESPACE,
    SERVING_CLUSTER,
    Manifest,
)
from modelyard_operator.kube.store import Reader
from modelyard_operator.observed.view import ClusterView
from modelyard_operator.ray.client import Proof
from modelyard_operator.reconcile.app import App, Claim
from modelyard_operator.reconcile.downloads import Downloads
from modelyard_operator.reconcile.headroom import Headroom, Outlook
from modelyard_operator.reconcile.pool_ledger import pool_share
from modelyard_operator.reconcile.reading import InvalidSpec, Unconfirmed, parse, revisions_of
from modelyard_operator.reconcile.result import Key, Result
from modelyard_operator.reconcile.routes import ROUTES
from modelyard_operator.status.cold_start import Proven, cold_start
from modelyard_operator.status.conditions import rejected
from modelyard_operator.status.model_service import ServiceFacts, service_status

log = logging.getLogger(__name__)

PROOF_TIMEOUT_S = 60.0
_RETRY_FIRST_S, _RETRY_MOST_S = 20.0, 300.0
_START_S = 600.0
"""A revision in another one's place has so long to start, or three times as long as the last start took."""
_FORGET_ROUTES_AFTER = timedelta(seconds=30)
"""A deletion waits so long for the gateways to acknowledge; a gateway that is gone must not hold it for ever."""


@dataclass
class _Memory:
    """What the loop remembers of a service between looks; losing it costs a repeated proof or an early retry."""

    proven: dict[str, Proven] = field(default_factory=dict)
    proof_failure: str | None = None
    failing: str | None = None
    """The revision that failed last."""
    failures: int = 0
    """How often in a row it has."""
    failed_at: datetime | None = None
    placed: tuple[str, datetime] | None = None
    """The candidate in another one's place, and since when that place is free."""


@dataclass(frozen=True)
class _Look:
    """One look at a service."""

    service: ModelService
    manifest: Manifest
    resolution: Resolved | Rejection
    revisions: tuple[Revision, ...]
    view: ClusterView | None
    outlook: Outlook
    confirmed: bool
    """Whether this is what the API server said just now."""


class ModelServiceLoop:
    """Reconciles ModelServices."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._headroom = Headroom(app)
        self._downloads = Downloads(app)
        self._memory: dict[Key, _Memory] = {}

    async def reconcile(self, key: Key) -> Result:
        """One look at the service `key` and one step."""
        try:
            return await self._attempt(key, self._app.seen)
        except Unconfirmed:
            return await self._attempt(key, self._app.kube)

    async def _attempt(self, key: Key, reader: Reader) -> Result:
        manifest = await reader.get(MODEL_SERVICE, key.name, namespace=key.namespace)
        if manifest is None:
            self._forget(key)
            return Result(done=True)
        try:
            service = parse(ModelService, manifest)
        except InvalidSpec as error:
            await self._reject(key, manifest, str(error))
            return Result(done="deletionTimestamp" in manifest["metadata"])
        if service.metadata.deletion_timestamp is not None:
            return self._let_go(key, service)
        return await self._advance(key, await self._look(key, service, manifest, reader))

    async def _look(self, key: Key, service: ModelService, manifest: Manifest, reader: Reader) -> _Look:
        found = await revisions_of(reader, namespace=key.namespace, service=key.name)
        confirmed = reader is self._app.kube
        if not confirmed and self._app.records.has_drifted(manifest, found):
            raise Unconfirmed
        revisions = await self._app.records.restore(manifest, found)
        bound = cluster_key(service, self._app.default_cluster)
        resolution = await self._resolve(service, bound, revisions)
        # The look at room comes last: until its claim is put down nothing may be awaited.
        outlook = await self._headroom.outlook(service, resolution, revisions, self._view(bound, revisions))
        return _Look(
            service=service,
            manifest=manifest,
            resolution=outlook.refusal or resolution,
            revisions=revisions,
            view=self._view(bound, revisions),
            outlook=outlook,
            confirmed=confirmed,
        )

    def _view(self, bound: tuple[str, str] | None, revisions: Iterable[Revision]) -> ClusterView | None:
        """The bound ServingCluster as last seen, with the RayClusters of others where revisions still run."""
        view = self._app.views.get(Key(*bound)) if bound else None
        others = {Key(*r.cluster_key) for r in revisions if r.cluster_key != bound}
        left = [self._app.views[key].ray_clusters for key in others if key in self._app.views]
        if view is None or not left:
            return view
        return replace(view, ray_clusters={n: v for each in [*left, view.ray_clusters] for n, v in each.items()})

    async def _resolve(
        self, service: ModelService, bound: tuple[str, str] | None, revisions: Iterable[Revision]
    ) -> Resolved | Rejection:
        if bound is None:
            return Rejection(
                Reason.SERVING_CLUSTER_NOT_FOUND,
                "The platform has no default ServingCluster. Name one in spec.servingCluster.name.",
            )
        namespace, name = bound
        found = await self._app.seen.get(SERVING_CLUSTER, name, namespace=namespace)
        if found is None:
            return Rejection(
                Reason.SERVING_CLUSTER_NOT_FOUND,
                f"There is no ServingCluster {namespace}/{name}. Create it, or name another one in "
                "spec.servingCluster.",
            )
        pool_name = service.spec.accelerator.pool
        pool = await self._app.seen.get(ACCELERATOR_POOL, pool_name)
        if pool is None:
            return Rejection(
                Reason.POOL_NOT_FOUND,
                f"spec.accelerator.pool names {pool_name!r}, but there is no AcceleratorPool of that name. "
                "`kubectl get apool` lists them.",
            )
        try:
            cluster, accelerators = parse(ServingCluster, found), parse(AcceleratorPool, pool)
        except InvalidSpec as error:
            return Rejection(
                Reason.INVALID_SPEC,
                f"ServingCluster {namespace}/{name} or AcceleratorPool {pool_name} cannot be read: {error}",
            )
        refused = await self._refusal(service.metadata.namespace, cluster, accelerators)
        home = self._home(service, cluster, revisions)
        return refused or resolve(service, cluster, accelerators, home, self._app.platform)

    def _home(self, service: ModelService, cluster: ServingCluster, revisions: Iterable[Revision]) -> str:
        """The RayCluster that a service belongs on: where it is, as long as it stands and nobody asks for another.

        A view without any RayCluster is one of a cluster that could not be looked at, as while KubeRay is absent.
        """
        view = self._app.views.get(Key(cluster.metadata.namespace, cluster.metadata.name))
        standing = view.ray_clusters if view is not None else {}
        asked = spec_hash(service.spec)
        stays = [
            r
            for r in revisions
            if r.proved
            and r.spec_hash == asked
            and is_as_asked(r.ray_cluster, cluster)
            and (not standing or r.ray_cluster in standing)
        ]
        latest = max(stays, key=lambda revision: revision.number, default=None)
        return latest.ray_cluster if latest is not None else newest_ray_cluster(cluster, self._app.platform)

    async def _refusal(self, namespace: str, cluster: ServingCluster, pool: AcceleratorPool) -> Rejection | None:
        labels: Mapping[str, str] = {}
        if asks_labels(cluster, pool):
            found = await self._app.kube.get(NAMESPACE, namespace)
            labels = (found or {"metadata": {}})["metadata"].get("labels") or {}
        return refusal(namespace, labels, cluster, pool, self._app.default_cluster)

    async def _advance(self, key: Key, look: _Look) -> Result:
        memory = self._memory.setdefault(key, _Memory())
        now = self._app.clock()
        steps = next_steps(
            Situation(
                wanted=look.resolution if isinstance(look.resolution, Resolved) else None,
                stopped=is_stopped(look.service.spec),
                revisions=look.revisions,
                view=look.view,
                routed=self._app.leads_to(key),
                settled=self._app.has_settled(key),
                proven=memory.proven,
                retry_due=_retry_due(memory, now),
                room=look.outlook.room,
                replace=look.service.spec.rollout.on_no_headroom == "Replace",
                overdue=_is_overdue(memory, look, now),
            )
        )
        if (steps.changes or steps.forget) and not look.confirmed:
            raise Unconfirmed
        self._claim(key, look, steps)
        await self._take(key, look, steps, memory)
        revisions = tuple(r for r in steps.revisions if r not in steps.forget)
        await self._tell(key, look, revisions, memory, waits=steps.waits)
        return self._next(key, steps, memory, now)

    def _claim(self, key: Key, look: _Look, steps: Steps) -> None:
        """Put down which workers the candidate is about to take, until Ray Serve shows it."""
        candidate = next((r for r in steps.revisions if r.phase is Phase.CANDIDATE), None)
        if candidate is None:
            self._app.claims.pop(key, None)
            return
        replicas = surge_replicas(look.service.spec, 0)
        self._app.claims[key] = Claim(
            ray_cluster=candidate.ray_cluster,
            group=candidate.group["groupName"],
            application=candidate.application,
            replicas=replicas if candidate.held_to is None else min(replicas, candidate.held_to),
        )

    async def _take(self, key: Key, look: _Look, steps: Steps, memory: _Memory) -> None:
        for revision in steps.changes:
            await self._app.records.write(revision, look.manifest)
            log.info("revision %s of %s is %s", revision.name, key, revision.phase)
            if revision.phase in DOWN_PHASES:
                memory.proven.pop(revision.name, None)
        if steps.prove is not None and look.view is not None:
            await self._prove(steps.prove, look.view, memory)
        for revision in steps.forget:
            await self._app.records.delete(revision, look.manifest)
        if steps.changes or steps.forget:
            for cluster in {Key(*revision.cluster_key) for revision in steps.revisions}:
                self._app.wakeups.wake(SERVING_CLUSTER, cluster)
            self._app.wakeups.wake(*ROUTES)
        if steps.failed is None:
            memory.failed_at = None
        elif memory.failed_at is None:
            again = memory.failing == steps.failed.name
            memory.failures = memory.failures + 1 if again else 1
            memory.failing, memory.failed_at = steps.failed.name, self._app.clock()

    async def _prove(self, revision: Revision, view: ClusterView, memory: _Memory) -> None:
        """Ask for a real inference on the ways that the gateways take."""
        cluster = view.ray_clusters[revision.ray_cluster]
        ways = cluster.ways_of(revision.application) if self._app.names_own_servers else cluster.ways
        addresses = [pod.address for pod in ways]
        timeout_s = min(PROOF_TIMEOUT_S, self._app.settings.stuck_after_s / 2)
        asked = [
            self._app.prober.prove(f"{address}:{SERVE_PORT}", revision.prefix, timeout_s=timeout_s)
            for address in addresses
        ]
        proofs = await asyncio.gather(*asked) or [Proof(ok=False, message="no Ray pod answers")]
        proof = next((proof for proof in proofs if not proof.ok), proofs[0])
        memory.proof_failure = None if proof.ok else proof.message
        if proof.ok:
            memory.failing = None
            memory.proven[revision.name] = Proven(proof.seconds, proof.ledger or {})

    async def _tell(
        self, key: Key, look: _Look, revisions: tuple[Revision, ...], memory: _Memory, *, waits: bool
    ) -> None:
        if look.view is None and look.service.status.conditions and _comes_into_view(look.resolution):
            return  # Just restarted: what was true is still the best that is known.
        promoted = next((r for r in revisions if r.phase is Phase.ACTIVE and r.name in memory.proven), None)
        ledger: ColdStart | None = None
        known = look.service.status.cold_start
        if promoted is not None and look.view is not None and (known is None or known.revision != promoted.name):
            ledger = cold_start(promoted, look.view, memory.proven[promoted.name], self._app.clock())
        facts = ServiceFacts(
            resolution=look.resolution,
            revisions=revisions,
            view=look.view,
            routed=self._app.leads_to(key),
            url=self._app.settings.gateway_url.rstrip("/") + public_path(key.namespace, key.name),
            proof_failure=memory.proof_failure,
            cold_start=ledger,
            download=await self._downloads.of(key, revisions, look.view),
            waits=waits,
            shortage=look.outlook.shortage,
            shares={
                r.application: share
                for r in revisions
                if (share := pool_share(self._app.pools, str(r.data["pool"]), r.application)) is not None
            },
        )
        await self._write(look.manifest, look.service.status, service_status(look.service, facts, self._app.clock()))

    async def _write(self, manifest: Manifest, old: ModelServiceStatus, new: ModelServiceStatus) -> None:
        if new == old:
            return
        metadata = manifest["metadata"]
        await self._app.kube.apply_status(
            {
                "apiVersion": MODEL_SERVICE.api_version,
                "kind": MODEL_SERVICE.kind,
                "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
                "status": new.model_dump(mode="json", by_alias=True, exclude_none=True),
            }
        )
        self._app.announce(manifest, old.conditions, new.conditions)

    async def _reject(self, key: Key, manifest: Manifest, message: str) -> None:
        """Say what is wrong with a spec that cannot be read; what runs goes on."""
        old = ModelServiceStatus.model_validate(manifest.get("status") or {})
        generation = manifest["metadata"].get("generation", 0)
        conditions = rejected(old.conditions, message, generation=generation, now=self._app.clock())
        new = old.model_copy(update={"conditions": conditions, "observed_generation": generation})
        await self._write(manifest, old, new)

    def _let_go(self, key: Key, service: ModelService) -> Result:
        """Deletion: first the gateways stop sending requests, then the object may go.

        Its revisions go with it (garbage collection); the ServingCluster's loop then takes its applications down,
        and Ray Serve lets the requests that are under way finish.
        """
        self._app.wakeups.wake(*ROUTES)
        since = datetime.fromisoformat(service.metadata.deletion_timestamp or "")
        refused = self._app.leads_to(key) == "" and self._app.has_settled(key)
        if refused or self._app.clock() - since > _FORGET_ROUTES_AFTER:
            self._forget(key)
            return Result(done=True)
        return Result(requeue_after_s=0.5)

    def _forget(self, key: Key) -> None:
        self._memory.pop(key, None)
        self._downloads.forget(key)
        self._app.claims.pop(key, None)
        self._app.records.forget(key)
        self._app.wakeups.wake(*ROUTES)
        self._app.wakeups.wake_all(SERVING_CLUSTER)

    def _next(self, key: Key, steps: Steps, memory: _Memory, now: datetime) -> Result:
        if steps.changes or steps.forget:
            return Result(requeue_after_s=0.2)
        if steps.prove is not None:
            return Result(requeue_after_s=0.2 if steps.prove.name in memory.proven else 2.0)
        if steps.failed is not None and memory.failed_at is not None:
            due = memory.failed_at + timedelta(seconds=_retry_delay(memory.failures)) - now
            return Result(requeue_after_s=max(0.5, due.total_seconds()))
        moving = steps.waits or any(r.phase is not Phase.ACTIVE for r in steps.revisions) or not steps.revisions
        return Result(requeue_after_s=5.0 if moving or not self._app.has_settled(key) else None)


def _comes_into_view(resolution: Resolved | Rejection) -> bool:
    """Whether there is a ServingCluster whose loop has only not looked yet."""
    unseen = (Reason.SERVING_CLUSTER_NOT_FOUND, Reason.INVALID_SPEC)
    return isinstance(resolution, Resolved) or resolution.reason not in unseen


def _is_overdue(memory: _Memory, look: _Look, now: datetime) -> bool:
    """Whether the candidate that has another one's place should have come up by now."""
    host = in_place_of(look.revisions)
    candidate = next((r for r in look.revisions if r.phase is Phase.CANDIDATE), None)
    if host is None or candidate is None or look.view is None:
        memory.placed = None
        return False
    if host.phase is not Phase.ACTIVE and not look.view.is_gone(host.ray_cluster, host.application):
        return False  # It finishes its requests first.
    if memory.placed is None or memory.placed[0] != candidate.name:
        memory.placed = candidate.name, now
    last = look.service.status.cold_start
    longest = max(_START_S, 3 * (last.total or 0.0) if last else 0.0)
    return now - memory.placed[1] >= timedelta(seconds=longest)


def _retry_delay(failures: int) -> float:
    return min(_RETRY_MOST_S, _RETRY_FIRST_S * 2.0 ** max(0, failures - 1))


def _retry_due(memory: _Memory, now: datetime) -> bool:
    if memory.failed_at is None:
        return False
    return now - memory.failed_at >= timedelta(seconds=_retry_delay(memory.failures))
