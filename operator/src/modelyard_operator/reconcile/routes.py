"""The publisher of routes: one for the whole operator, since every gateway serves every service."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from modelyard_gateway.published import publishable, published_text
from modelyard_gateway.routes import CONFIG_MAP, SCHEMA, SCHEMA_ANNOTATION, RouteDocument
from modelyard_operator.api.model_service import ModelService
from modelyard_operator.desired.names import CLUSTER_LABEL, MANAGED_LABEL
from modelyard_operator.desired.revision import Revision
from modelyard_operator.desired.routes import RayPod, RayPods, RoutedService, route_document, routed_revisions
from modelyard_operator.desired.scaling import is_stopped
from modelyard_operator.kube.client import CONFIG_MAP as CONFIG_MAP_KIND
from modelyard_operator.kube.client import CONTROLLER_REVISION, MODEL_SERVICE, POD, Kind, Manifest
from modelyard_operator.kube.store import Reader
from modelyard_operator.observed.pods import parse_leaving, parse_pods
from modelyard_operator.observed.view import listening, ways
from modelyard_operator.reconcile.app import App, Routed
from modelyard_operator.reconcile.reading import InvalidSpec, parse, revisions_of
from modelyard_operator.reconcile.result import Key, Result

log = logging.getLogger(__name__)

ROUTES = (Kind("modelyard.dev/v1alpha1", "Routes", "routes"), Key("", "routes"))
"""The wake-up of the publisher, which has no object of its own."""

_REMEMBERED = 64
"""Documents that a gateway may lag behind and still be understood."""
_POLL_S, _REST_S = 0.5, 10.0
_PAUSE_PER_RENDERING, _MOST_PAUSE_S = 3.0, 1.0
"""A document takes 0.1 s for a thousand services; after each there is a pause of so many times what it took."""
_KINDS = (MODEL_SERVICE, CONTROLLER_REVISION, POD)
"""What a document is made of."""


@dataclass(frozen=True)
class _Rendered:
    """A document, and what takes long to work out of it."""

    document: RouteDocument
    of: object
    """What it was made of."""
    before: str
    """The document that stood, as text."""

    @cached_property
    def version(self) -> str:
        return self.document.version

    @cached_property
    def text(self) -> str:
        return self.document.to_json()

    @cached_property
    def leads(self) -> dict[Key, str]:
        """Per service the revision that it leads to; empty where it refuses."""
        return {Key(*service): revision for service, revision in routed_revisions(self.document).items()}


class RoutePublisher:
    """Publishes the route document and learns which of its routes are in effect everywhere."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._rendered: _Rendered | None = None
        """The latest document, by what was seen."""
        self._not_before = 0.0
        """When the next one may be rendered, by the event loop's clock."""
        self._latest: dict[Key, str] | None = None
        """What the document says that stands; None before it is known."""
        self._published: dict[str, dict[Key, str]] = {}
        """The latest documents by version, as far as acknowledgements depend on them, oldest first."""

    async def reconcile(self, key: Key) -> Result:
        """Write the document if it changed, then ask the gateways."""
        await self._pause()
        namespace = self._app.settings.namespace
        standing = await self._app.kube.get(CONFIG_MAP_KIND, CONFIG_MAP, namespace=namespace)
        before = _text_in(standing or {})
        schema = schema_of(await self._gateways())
        rendered = await self._seen(before, schema)
        leads = rendered.leads
        if self._latest is None or any(revision and not leads.get(key) for key, revision in self._latest.items()):
            # Requests of a service are refused only by what the API server says now.
            rendered = await self._render(self._app.kube, before, schema)
        wanted = rendered.leads
        # Gateways may leave the old way as soon as the new one is published: from here on it is not certain any more.
        self._learn({key: at.revision for key, at in self._app.routed.items() if wanted.get(key) == at.revision})
        self._app.names_own_servers = self._app.names_own_servers and rendered.document.schema_version >= SCHEMA
        await self._publish(rendered, standing)
        self._app.names_own_servers = rendered.document.schema_version >= SCHEMA
        self._latest = wanted
        self._published.pop(rendered.version, None)
        self._published[rendered.version] = wanted
        for version in list(self._published)[:-_REMEMBERED]:
            del self._published[version]
        applied = await self._applied()
        self._learn(_agreed(wanted, applied))
        everywhere = all(routes == wanted for routes in applied)
        return Result(requeue_after_s=_REST_S if everywhere else _POLL_S)

    async def _seen(self, before: str, schema: int) -> _Rendered:
        """The document by what was seen: the same one while nothing that it is made of has changed."""
        known = self._rendered
        if (
            known is not None
            and known.of == self._made_of()
            and known.document.schema_version == schema
            and before in (known.before, known.text)
        ):
            return known
        clock = asyncio.get_running_loop().time
        begun = clock()
        self._rendered = await self._render(self._app.seen, before, schema)
        self._not_before = clock() + min(_MOST_PAUSE_S, _PAUSE_PER_RENDERING * (clock() - begun))
        return self._rendered

    async def _pause(self) -> None:
        """While much changes a part of the time goes into documents, not all of it."""
        if self._rendered is not None and self._rendered.of != self._made_of():
            await asyncio.sleep(self._not_before - asyncio.get_running_loop().time())

    def _made_of(self) -> object:
        """All that a document is made of but the one that stands; while that is not known, what equals nothing."""
        store = self._app.store
        if not all(store.is_complete(kind) for kind in _KINDS):
            return object()
        return store.changes(*_KINDS), self._app.records.changes, self._serving()

    def _serving(self) -> dict[tuple[str, str], Mapping[str, frozenset[str]] | None]:
        return {
            (key.namespace, name): view.serving
            for key, cluster in self._app.views.items()
            for name, view in cluster.ray_clusters.items()
        }

    async def _render(self, kube: Reader, before: str, schema: int) -> _Rendered:
        of = self._made_of()
        services = await kube.list(MODEL_SERVICE)
        revisions = await revisions_of(kube)
        pods = await kube.list(POD, labels=f"{MANAGED_LABEL}=true,{CLUSTER_LABEL}")
        routed = [_routed(service, self._app.records.of(service, revisions)) for service in services]
        found = ray_pods(pods, self._serving())
        return _Rendered(route_document(routed, found, _document_in(before), schema=schema), of, before)

    async def _publish(self, rendered: _Rendered, standing: Manifest | None) -> None:
        wanted = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": CONFIG_MAP,
                "namespace": self._app.settings.namespace,
                "labels": {MANAGED_LABEL: "true"},
            },
            **publishable(rendered.text),
        }
        if await self._app.upkeep.keep(wanted, standing) is standing:
            return
        log.info(
            "published routes version %s: %d routes, %d refusals",
            rendered.version, len(rendered.document.routes), len(rendered.document.refusals),
        )  # fmt: skip

    async def _applied(self) -> list[dict[Key, str] | None]:
        """What each gateway that takes requests leads to; None for one that does not say, or says what we forgot."""
        pods = parse_pods(await self._gateways())
        addresses = [pod.address for pod in pods if pod.ready and pod.address]
        versions = await asyncio.gather(*(self._app.gateways.applied_version(address) for address in addresses))
        return [self._published.get(version or "") for version in versions]

    async def _gateways(self) -> Sequence[Manifest]:
        settings = self._app.settings
        return await self._app.kube.list(POD, namespace=settings.namespace, labels=settings.gateway_labels)

    def _learn(self, agreed: dict[Key, str]) -> None:
        """Note where all gateways lead each service and since when; wake the services where that is new."""
        now, before = self._app.clock(), self._app.routed
        after = {
            key: before[key] if key in before and before[key].revision == revision else Routed(revision, now)
            for key, revision in agreed.items()
        }
        self._app.routed = after
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                self._app.wakeups.wake(MODEL_SERVICE, key)


def _text_in(config_map: Manifest) -> str:
    """The document that stands, as text; empty where there is none, or nothing that anybody could read."""
    try:
        return published_text(config_map.get("data"), config_map.get("binaryData")) or ""
    except ValueError:
        return ""


def _document_in(text: str) -> RouteDocument | None:
    """The document that the gateways have; None where there is none that they would take."""
    try:
        return RouteDocument.from_json(text)
    except ValueError:
        return None


def _agreed(wanted: dict[Key, str], applied: list[dict[Key, str] | None]) -> dict[Key, str]:
    """What is wanted of a service and every gateway does, whatever else differs; nothing while one is silent."""
    if None in applied:
        return {}
    known = [routes for routes in applied if routes is not None]
    return {key: rev for key, rev in wanted.items() if all(routes.get(key) == rev for routes in known)}


def _routed(service: Manifest, revisions: tuple[Revision, ...]) -> RoutedService:
    metadata = service["metadata"]
    return RoutedService(
        namespace=metadata["namespace"],
        name=metadata["name"],
        revisions=revisions,
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


def schema_of(gateways: Iterable[Manifest]) -> int:
    """The newest schema of the document that all gateways read, also those that start, or finish their requests."""
    there = [pod["metadata"] for pod in gateways if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
    said = [(metadata.get("annotations") or {}).get(SCHEMA_ANNOTATION, "") for metadata in there]
    return min([SCHEMA, *(int(schema) if schema.isdecimal() else 1 for schema in said)])


def ray_pods(
    pods: Iterable[Manifest], serving: Mapping[tuple[str, str], Mapping[str, frozenset[str]] | None]
) -> dict[tuple[str, str], RayPods]:
    """The Ray pods that may answer, by namespace and name of their RayCluster; `serving` as a view has it."""
    found: dict[tuple[str, str], RayPods] = {}
    by_cluster: dict[tuple[str, str], list[Manifest]] = {}
    for pod in pods:
        key = pod["metadata"]["namespace"], pod["metadata"]["labels"].get("ray.io/cluster", "")
        by_cluster.setdefault(key, []).append(pod)
    for key, members in by_cluster.items():
        known = serving.get(key)
        led_to = ways(parse_pods(members), parse_leaving(members), listening(known))
        found[key] = RayPods([RayPod(pod.name, pod.address, is_head=pod.is_head) for pod in led_to], known)
    return found
