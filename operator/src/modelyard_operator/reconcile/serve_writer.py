"""Asks Ray Serve what runs on a RayCluster, and is the only writer of its config."""

import base64
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelyard_operator.api.conditions import Reason
from modelyard_operator.desired.names import DASHBOARD_PORT, parse_application_name, revision_object_name
from modelyard_operator.desired.revision import DOWN_PHASES, Phase
from modelyard_operator.desired.serve_config import (
    Fragment,
    ServeChange,
    fragments,
    keeping_sizes,
    serve_change,
    serve_config,
    stand_ins,
)
from modelyard_operator.kube.client import CONTROLLER_REVISION, MODEL_SERVICE, SECRET, SERVING_CLUSTER, Manifest
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import RayClusterFacts, parse_ray_cluster
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.recovery import is_recovering, recovering
from modelyard_operator.observed.serve import ApplicationFacts, parse_details
from modelyard_operator.observed.view import RayClusterView
from modelyard_operator.ray.client import ConfigRefused, ServeClient, ServeUnreachable
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.pool_division import PoolDivision, RayClusterState
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.serve_memory import Head, ServeMemory
from modelyard_operator.reconcile.tenants import Tenants
from modelyard_operator.reconcile.upkeep import reference

log = logging.getLogger(__name__)

_LATELY = timedelta(seconds=1)
_TAKEN_UP_WITHIN = timedelta(seconds=30)
"""KubeRay writes a RayCluster's first status within this, or it does not run."""


@dataclass(frozen=True)
class _Target:
    """A RayCluster with a Serve that answers."""

    name: str
    owner: Manifest
    """Its ServingCluster, for Events."""
    state: RayClusterState
    client: ServeClient
    memory: ServeMemory


class ServeWriter:
    """Writes Serve configs, each as a whole."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._division = PoolDivision(app)
        self._memory: dict[Key, ServeMemory] = {}
        """By namespace and name of the RayCluster."""

    def forget(self, ray_cluster: Key) -> None:
        """The RayCluster has been put away."""
        self._memory.pop(ray_cluster, None)

    def wrote_lately(self, namespace: str, ray_clusters: Iterable[str]) -> bool:
        """Whether Ray Serve was given a config a moment ago, and is probably about to do what it says."""
        known = (self._memory.get(Key(namespace, name)) for name in ray_clusters)
        written = [memory.written_at for memory in known if memory is not None and memory.written_at is not None]
        return any(self._app.clock() - at < _LATELY for at in written)

    async def hears_the_same(self, namespace: str, ray_clusters: Iterable[str]) -> bool:
        """Whether the Serves of RayClusters still answer as they did when they were last looked at."""
        for name in ray_clusters:
            memory = self._memory.get(Key(namespace, name))
            if memory is None or memory.heard is None:
                return False
            client, before = memory.heard
            try:
                told = await client.details()
            except ServeUnreachable:
                return False  # The look says so.
            if told is not before and told != before:
                return False
        return True

    async def serve(self, manifest: Manifest, state: RayClusterState) -> RayClusterView:
        """Ask Serve what runs, and write its config if something else should."""
        view = await self._serve(manifest, state)
        if view.applications is None:
            self._division.note_unseen(state, fragments(state.tenants.by_key.values(), view.facts.name))
        return view

    async def _serve(self, manifest: Manifest, state: RayClusterState) -> RayClusterView:
        key, pods = state.place.cluster, state.pods
        facts = parse_ray_cluster(manifest)
        trouble = self._head_trouble(facts, manifest, pods)
        if trouble is not None or not facts.head_ready or not facts.head_address:
            return RayClusterView(facts, pods, None, trouble)
        memory = self._memory.setdefault(Key(key.namespace, facts.name), ServeMemory())
        token = await self._token(manifest, memory)
        if token is None:
            return RayClusterView(facts, pods, None)
        client = self._app.serve_clients.client(f"{facts.head_address}:{DASHBOARD_PORT}", token)
        try:
            memory.heard = client, await client.details()
            applications, head = parse_details(memory.heard[1]), _head(manifest, pods)
            # A head that has once found all again has nothing more to find: what it misses then was taken away.
            awaited = [
                applications.get(r.application)
                for r in state.tenants.revisions
                if r.phase is Phase.ACTIVE
                and r.ray_cluster == facts.name
                and (r.application in applications or memory.head != head)
            ]
            if is_recovering(facts, pods, awaited, self._app.clock()):
                return RayClusterView(facts, pods, None, recovering(facts))
            memory.saw(head, applications)
            await self._settle(_Target(facts.name, _owner(key, manifest), state, client, memory), applications)
        except ServeUnreachable as error:
            memory.token = None  # It may be another one by now.
            return RayClusterView(facts, pods, None, Failure(Reason.SERVE_UNREACHABLE, str(error)))
        except ConfigRefused as error:
            return RayClusterView(facts, pods, applications, Failure(Reason.CONFIG_REFUSED, str(error)))
        refused = {name: refusal.message for name, refusal in memory.refused.items()}
        return RayClusterView(facts, pods, applications, refused=refused)

    async def _settle(self, target: _Target, applications: Mapping[str, ApplicationFacts]) -> None:
        """Write the config if what stands is not what should."""
        change = await self._change(target, applications)
        memory = target.memory
        if not change.needed:
            if change.before.keys() == applications.keys():
                memory.agrees(change.before)
            return
        drift = memory.drift(applications)
        try:
            await self._put(target, change.applications)
        except ConfigRefused as error:
            await self._put_without_refused(target, change, error)
        log.info(
            "Serve config of %s written: added %s, changed %s, removed %s, kept %s, refused %s",
            target.name, change.added, change.changed, change.removed, change.kept, sorted(memory.refused),
        )  # fmt: skip
        if drift:
            self._app.upkeep.tell(
                target.owner,
                f"The Serve config of RayCluster {target.name} was written by somebody else, who {drift}: put back",
            )

    async def _put(self, target: _Target, applications: Mapping[str, Fragment]) -> None:
        memory = target.memory
        before, memory.written, memory.heard = memory.written, None, None
        await self._app.lease.confirm()
        try:
            await target.client.put(serve_config(applications))
        except ConfigRefused:
            memory.written = before
            raise
        memory.took(applications, self._app.clock())

    async def _put_without_refused(self, target: _Target, change: ServeChange, error: ConfigRefused) -> None:
        """Ray refuses a whole config for one application in it: find which, by halves, and write all others.

        Raises ConfigRefused where it is none of those that are new or changed.
        """
        novel = change.novel
        if not novel or target.memory.written != change.without(novel):
            await self._put(target, change.without(novel))
        taken: set[str] = set()
        suspects = [(novel, str(error))]
        while suspects:
            group, message = suspects.pop()
            if len(group) == 1:
                target.memory.refuse(group[0], change.applications[group[0]], message, self._app.clock())
                continue
            middle = len(group) // 2
            for half in (group[:middle], group[middle:]):
                try:
                    await self._put(target, change.without(set(novel) - taken - set(half)))
                except ConfigRefused as again:
                    suspects.append((half, str(again)))
                else:
                    taken |= set(half)

    async def _change(self, target: _Target, applications: Mapping[str, ApplicationFacts]) -> ServeChange:
        state, tenants, memory = target.state, target.state.tenants, target.memory
        wanted = self._division.divide(state, fragments(tenants.by_key.values(), target.name), applications)
        wanted = memory.acceptable(keeping_sizes(wanted, applications), self._app.clock())
        # What is going away cannot be asked for again until it is gone.
        leaving = {app for app, facts in applications.items() if facts.config is None and facts.status == "DELETING"}
        wanted = {app: fragment for app, fragment in wanted.items() if app not in leaving}
        standing: dict[str, dict[str, Any] | None] = {
            app: facts.config for app, facts in applications.items() if app not in leaving
        }
        # A head that came back without its memory has forgotten what nobody can ask for now: it is kept all the same.
        known = {**stand_ins(tenants.by_key.values(), target.name), **memory.accepted}
        lost = {app: fragment for app, fragment in known.items() if app not in applications and app not in wanted}
        left = [app for app, fragment in {**standing, **lost}.items() if app not in wanted and fragment is not None]
        retired = {app for app in left if await self._is_retired(tenants, app)}
        if retired:
            tenants.confirm()
        for app in retired:
            memory.forget(app)
        kept = {app: fragment for app, fragment in lost.items() if app not in retired}
        return serve_change({**kept, **wanted}, standing, retired)

    async def _is_retired(self, tenants: Tenants, application: str) -> bool:
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
            return recorded[0].phase in DOWN_PHASES
        # Absence from a LIST is not enough to take a model down: ask for this one.
        if await kube.get(MODEL_SERVICE, name, namespace=namespace) is None:
            return True
        record = revision_object_name(name, revision)
        if await kube.get(CONTROLLER_REVISION, record, namespace=namespace) is not None:
            return False
        return self._app.leads_to(own) not in (None, revision)

    async def _token(self, ray_cluster: Manifest, memory: ServeMemory) -> str | None:
        """Of Ray's dashboard: a RayCluster keeps its own for as long as it stands."""
        metadata = ray_cluster["metadata"]
        if memory.token is None or memory.token[0] != metadata["uid"]:
            secret = await self._app.kube.get(SECRET, metadata["name"], namespace=metadata["namespace"])
            encoded = ((secret or {}).get("data") or {}).get("auth_token")
            memory.token = (metadata["uid"], base64.b64decode(encoded).decode()) if encoded else None
        return memory.token[1] if memory.token is not None else None

    def _head_trouble(self, facts: RayClusterFacts, manifest: Manifest, pods: Iterable[PodFacts]) -> Failure | None:
        head = next((pod for pod in pods if pod.is_head), None)
        if head is not None and head.trouble is not None:
            return head.trouble
        if facts.was_ready and not facts.head_ready:
            meanwhile = (
                "replicas on its workers serve on meanwhile." if facts.redis else "the models are then started again."
            )
            return Failure(
                Reason.HEAD_GONE,
                f"The head of RayCluster {facts.name} is gone; KubeRay starts another one, and {meanwhile}",
            )
        made = datetime.fromisoformat(manifest["metadata"]["creationTimestamp"])
        if not facts.seen_by_kuberay and self._app.clock() - made > _TAKEN_UP_WITHIN:
            return Failure(
                Reason.KUBERAY_ABSENT,
                f"KubeRay has not taken up RayCluster {facts.name}: is its operator running? "
                "`kubectl get pods -A -l app.kubernetes.io/component=kuberay-operator` shows it.",
            )
        return None


def _head(ray_cluster: Manifest, pods: Iterable[PodFacts]) -> Head:
    pod = next((pod for pod in pods if pod.is_head), None)
    return Head(ray_cluster["metadata"]["uid"], pod.name if pod else "", pod.started if pod else None)


def _owner(key: Key, ray_cluster: Manifest) -> Manifest:
    owners = ray_cluster["metadata"].get("ownerReferences") or []
    uid = next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")
    return reference(SERVING_CLUSTER, key.namespace, key.name, uid)
