"""The route document: from all services, their revisions and the Ray pods to what every gateway applies."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelyard_gateway.routes import Backend, Refusal, Route, RouteDocument, Server
from modelyard_operator.desired.names import SERVE_PORT, backend_name, public_path
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


def active_revision(revisions: Iterable[Revision]) -> Revision | None:
    """The revision that takes the requests: the active one with the highest number."""
    active = [revision for revision in revisions if revision.phase is Phase.ACTIVE]
    return max(active, key=lambda revision: revision.number, default=None)


def route_document(
    services: Iterable[RoutedService],
    pods: Mapping[tuple[str, str], Iterable[RayPod]],
    standing: RouteDocument | None = None,
) -> RouteDocument:
    """The routes of all `services`; `pods` by namespace and name of their RayCluster.

    `standing` is the document that the gateways have. Where it leads to a revision whose record is lost, it still does.
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
            namespace, _, ray_cluster = kept.backend.partition(".")
            needed.add((namespace, ray_cluster))
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
    backends = [_backend(key, pods.get(key, ())) for key in sorted(needed)]
    return RouteDocument(
        backends=tuple(backends),
        routes=tuple(sorted(routes, key=lambda route: route.path)),
        refusals=tuple(sorted(refusals, key=lambda refusal: refusal.path)),
    )


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
