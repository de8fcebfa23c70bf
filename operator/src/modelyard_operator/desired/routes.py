"""The route document: from all services, their revisions and the Ray pods to what every gateway applies."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from modelyard_gateway.routes import MOST_OWN_SERVERS, SCHEMA, Backend, Refusal, Route, RouteDocument, Server
from modelyard_operator.desired.names import SERVE_PORT, application_name, backend_name, public_path
from modelyard_operator.desired.revision import Phase, Revision


@dataclass(frozen=True)
class RoutedService:
    """A service, as far as routes depend on it."""

    namespace: str
    name: str
    revisions: tuple[Revision, ...]
    refusal: tuple[str, str] | None
    """Reason and message with which requests are refused although a revision may be active."""


@dataclass(frozen=True)
class RayPod:
    """A Ray pod that may answer requests."""

    name: str
    address: str
    is_head: bool


@dataclass(frozen=True)
class RayPods:
    """Those of one RayCluster."""

    pods: Sequence[RayPod] = ()
    serving: Mapping[str, frozenset[str]] | None = None
    """Addresses of the pods with a running replica, by application; None where that is not known."""

    def own_servers(self, application: str, before: Iterable[str]) -> tuple[str, ...]:
        """The workers with a replica of the application; those of `before` where that is not known."""
        if self.serving is None:
            names = set(before).intersection(self._workers.values())
        else:
            names = {self._workers[a] for a in self.serving.get(application, ()) if a in self._workers}
        return tuple(sorted(names))[:MOST_OWN_SERVERS]

    @cached_property
    def _workers(self) -> Mapping[str, str]:
        """Names by address."""
        return {pod.address: pod.name for pod in self.pods if not pod.is_head}


def active_revision(revisions: Iterable[Revision]) -> Revision | None:
    """The revision that takes the requests: the active one with the highest number."""
    active = [revision for revision in revisions if revision.phase is Phase.ACTIVE]
    return max(active, key=lambda revision: revision.number, default=None)


def route_document(
    services: Iterable[RoutedService],
    pods: Mapping[tuple[str, str], RayPods],
    standing: RouteDocument | None = None,
    *,
    schema: int = SCHEMA,
) -> RouteDocument:
    """The routes of all `services`; `pods` by namespace and name of their RayCluster.

    `standing` is the document that the gateways have. Where it leads to a revision whose record is lost, it still does.
    `schema` is the newest that all of them read.
    """
    before = {route.path: route for route in standing.routes} if standing else {}
    routes: list[Route] = []
    refusals: list[Refusal] = []
    needed: set[tuple[str, str]] = set()
    for service in services:
        path = public_path(service.namespace, service.name)
        active = active_revision(service.revisions)
        kept = before.get(path)
        if kept is not None and service.refusal is None and active is None and _is_lost(kept, service.revisions):
            needed.add(_cluster_of(kept))
            routes.append(kept)
            continue
        if service.refusal is not None or active is None:
            reason, message = service.refusal or _without_active(service)
            refusals.append(Refusal(path=path, reason=reason, message=message))
            continue
        key = (active.cluster_key[0], active.ray_cluster)
        needed.add(key)
        routes.append(
            Route(
                path=path,
                backend=backend_name(*key),
                prefix=active.prefix,
                timeout_s=math.ceil(active.request_timeout_s),
            )
        )
    pods = {key: pods.get(key, RayPods()) for key in sorted(needed)}
    backends = [_backend(key, found.pods) for key, found in pods.items()]
    routes = [_with_servers(route, pods[_cluster_of(route)], before.get(route.path), schema) for route in routes]
    return RouteDocument(
        schema_version=schema,
        backends=tuple(backends),
        routes=tuple(sorted(routes, key=lambda route: route.path)),
        refusals=tuple(sorted(refusals, key=lambda refusal: refusal.path)),
    )


def _cluster_of(route: Route) -> tuple[str, str]:
    namespace, _, ray_cluster = route.backend.partition(".")
    return namespace, ray_cluster


def _with_servers(route: Route, pods: RayPods, before: Route | None, schema: int) -> Route:
    """The route with the workers that requests are to go to first: those with a replica of its revision."""
    if schema == 1:
        return route.model_copy(update={"servers": ()})
    known = before.servers if before is not None and before.prefix == route.prefix else ()
    servers = pods.own_servers(application_name(*route.prefix.split("/")[2:]), known)
    return route.model_copy(update={"servers": servers})


def _is_lost(route: Route, revisions: Iterable[Revision]) -> bool:
    """Whether nothing is recorded of where a route leads, or it is only just being recorded again."""
    name = route.prefix.rsplit("/", 1)[1]
    return all(revision.phase is Phase.CANDIDATE for revision in revisions if revision.name == name)


def _without_active(service: RoutedService) -> tuple[str, str]:
    name = f"{service.namespace}/{service.name}"
    if any(revision.phase in (Phase.YIELDING, Phase.REPLACED) for revision in service.revisions):
        return "Replacing", f"{name} is being replaced by a new revision that does not fit beside it. Try again soon."
    return "NotServing", f"{name} has no revision that serves yet."


def _backend(key: tuple[str, str], pods: Iterable[RayPod]) -> Backend:
    servers = [Server(name=p.name, address=p.address, port=SERVE_PORT, backup=p.is_head) for p in pods]
    return Backend(
        name=backend_name(*key),
        servers=tuple(sorted(servers, key=lambda server: (server.backup, server.name))),
    )


def routed_revisions(document: RouteDocument) -> dict[tuple[str, str], str]:
    """Per service the revision that `document` leads to; empty where it refuses."""
    routed: dict[tuple[str, str], str] = {}
    for route in document.routes:
        namespace, name = route.path.strip("/").split("/")
        routed[namespace, name] = route.prefix.rsplit("/", 1)[1]
    for refusal in document.refusals:
        namespace, name = refusal.path.strip("/").split("/")
        routed[namespace, name] = ""
    return routed
