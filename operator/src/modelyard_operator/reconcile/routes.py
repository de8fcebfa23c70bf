"""The publisher of routes: one for the whole operator, since every gateway serves every service."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from modelyard_gateway.routes import CONFIG_MAP, CONFIG_MAP_KEY, RouteDocument
from modelyard_operator.api.model_service import ModelService
from modelyard_operator.desired.names import CLUSTER_LABEL, MANAGED_LABEL
from modelyard_operator.desired.routes import RayPod, RoutedService, route_document, routed_revisions
from modelyard_operator.desired.scaling import is_stopped
from modelyard_operator.kube.client import CONFIG_MAP as CONFIG_MAP_KIND
from modelyard_operator.kube.client import MODEL_SERVICE, POD, Kind, Manifest
from modelyard_operator.observed.pods import parse_pods
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.reading import InvalidSpec, Revisions, parse, revisions_of
from modelyard_operator.reconcile.result import Key, Result

log = logging.getLogger(__name__)

ROUTES = (Kind("modelyard.dev/v1alpha1", "Routes", "routes"), Key("", "routes"))
"""The wake-up of the publisher, which has no object of its own."""

_SETTLE = timedelta(seconds=1)
"""Requests that a gateway sent on by the old map right before it acknowledged have arrived after this."""
_POLL_S, _REST_S = 0.5, 10.0


class RoutePublisher:
    """Publishes the route document and learns which of its routes are in effect everywhere."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._acknowledged: tuple[str, datetime] | None = None
        """Version that all gateways have, and since when we know."""

    async def reconcile(self, key: Key) -> Result:
        """Write the document if it changed, then ask the gateways."""
        document = await self._document()
        # Before a gateway can learn of another route, nobody may rely on the present one any more.
        self._learn(document, in_effect=False)
        await self._publish(document)
        in_effect = await self._in_effect(document.version)
        self._learn(document, in_effect=in_effect)
        return Result(requeue_after_s=_REST_S if in_effect else _POLL_S)

    async def _document(self) -> RouteDocument:
        kube = self._app.kube
        services = await kube.list(MODEL_SERVICE)
        revisions = await revisions_of(kube)
        pods = await kube.list(POD, labels=f"{MANAGED_LABEL}=true,{CLUSTER_LABEL}")
        return route_document([_routed(service, revisions) for service in services], ray_pods(pods))

    async def _publish(self, document: RouteDocument) -> None:
        namespace = self._app.settings.namespace
        standing = await self._app.kube.get(CONFIG_MAP_KIND, CONFIG_MAP, namespace=namespace)
        text = document.to_json()
        if standing is not None and (standing.get("data") or {}).get(CONFIG_MAP_KEY) == text:
            return
        await self._app.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": CONFIG_MAP, "namespace": namespace, "labels": {MANAGED_LABEL: "true"}},
                "data": {CONFIG_MAP_KEY: text},
            }
        )
        log.info(
            "published routes version %s: %d routes, %d refusals",
            document.version, len(document.routes), len(document.refusals),
        )  # fmt: skip

    async def _in_effect(self, version: str) -> bool:
        """Whether every gateway that takes requests has had `version` for long enough."""
        app = self._app
        pods = await app.kube.list(POD, namespace=app.settings.namespace, labels=app.settings.gateway_labels)
        addresses = [pod.address for pod in parse_pods(pods) if pod.ready and pod.address]
        answers = await asyncio.gather(*(app.gateways.applied_version(address) for address in addresses))
        if any(answer != version for answer in answers):
            self._acknowledged = None
            return False
        if self._acknowledged is None or self._acknowledged[0] != version:
            self._acknowledged = version, app.clock()
        return app.clock() - self._acknowledged[1] >= _SETTLE

    def _learn(self, document: RouteDocument, *, in_effect: bool) -> None:
        wanted = {Key(*service): revision for service, revision in routed_revisions(document).items()}
        before = self._app.routed
        if in_effect:
            self._app.routed = wanted
        else:
            self._app.routed = {key: rev for key, rev in before.items() if wanted.get(key) == rev}
        for key in before.keys() | self._app.routed.keys():
            if before.get(key) != self._app.routed.get(key):
                self._app.wakeups.wake(MODEL_SERVICE, key)


def _routed(service: Manifest, revisions: Revisions) -> RoutedService:
    metadata = service["metadata"]
    return RoutedService(
        namespace=metadata["namespace"],
        name=metadata["name"],
        revisions=revisions.of(service),
        refusal=_refusal(service),
    )


def _refusal(service: Manifest) -> tuple[str, str] | None:
    metadata = service["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    if metadata.get("deletionTimestamp"):
        return "Deleting", f"{name} is being deleted."
    try:
        spec = parse(ModelService, service).spec
    except InvalidSpec:
        return None  # Its own loop says what is wrong; what serves goes on.
    if spec.suspend:
        return "Suspended", f"{name} is suspended; its owner resumes it by setting spec.suspend to false."
    if is_stopped(spec):
        return "Stopped", f"{name} is scaled to zero replicas; its owner starts it by setting spec.replicas."
    return None


def ray_pods(pods: Iterable[Manifest]) -> dict[tuple[str, str], list[RayPod]]:
    """The Ray pods that may answer, by namespace and name of their RayCluster."""
    found: dict[tuple[str, str], list[RayPod]] = {}
    by_cluster: dict[tuple[str, str], list[Manifest]] = {}
    for pod in pods:
        key = pod["metadata"]["namespace"], pod["metadata"]["labels"].get("ray.io/cluster", "")
        by_cluster.setdefault(key, []).append(pod)
    for key, members in by_cluster.items():
        found[key] = [
            RayPod(name=pod.name, address=pod.address, is_head=pod.is_head)
            for pod in parse_pods(members)
            if pod.address and (pod.ready or pod.is_head)
        ]
    return found
