"""The services bound to a ServingCluster, with their revisions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelyard_operator.api.model_service import ModelService
from modelyard_operator.desired.resolution import cluster_key
from modelyard_operator.desired.revision import RUNNING_PHASES, Revision
from modelyard_operator.desired.routes import active_revision
from modelyard_operator.desired.serve_config import Tenant
from modelyard_operator.kube.client import MODEL_SERVICE, Manifest
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.reading import InvalidSpec, Revisions, Unconfirmed, parse, revisions_of
from modelyard_operator.reconcile.result import Key


@dataclass(frozen=True)
class Tenants:
    """The services bound to a ServingCluster and their revisions."""

    by_key: Mapping[Key, Tenant]
    unread: bool
    """Whether there are revisions that nobody here can read: what they need is not known, so nothing is put away."""
    confirmed: bool = True
    """Whether these are from complete LISTs of this look; without that nothing may be taken away by them."""

    def confirm(self) -> None:
        """To be called before anything is taken away. Raises Unconfirmed."""
        if not self.confirmed:
            raise Unconfirmed

    @property
    def revisions(self) -> list[Revision]:
        return [revision for tenant in self.by_key.values() for revision in tenant.revisions]

    def running(self) -> list[Revision]:
        return [revision for revision in self.revisions if revision.phase in RUNNING_PHASES]


async def tenants_of(app: App, key: Key, *, confirmed: bool = False) -> Tenants:
    """Who is bound to the ServingCluster `key`, or still runs on it: as seen last, or `confirmed` by complete LISTs."""
    # Revisions first: a service that is made in between is seen without its revisions, never the reverse.
    revisions = await (revisions_of(app.kube) if confirmed else revisions_of(app.seen, cluster=key))
    tenants = {}
    # One that is being deleted stays until it is gone: its own loop first waits for the gateways to refuse.
    for manifest in await _services(app, key, revisions, confirmed=confirmed):
        here = tuple(r for r in app.records.of(manifest, revisions) if r.cluster_key == key)
        try:
            service = parse(ModelService, manifest)
        except InvalidSpec:
            spec, bound = None, False  # Its own loop says what is wrong.
        else:
            spec, bound = service.spec, cluster_key(service, app.default_cluster) == key
        if here or bound:
            own = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            tenants[own] = Tenant(spec, here, _active_replicas(app, key, here))
    return Tenants(tenants, unread=key in revisions.unread, confirmed=confirmed)


async def _services(app: App, key: Key, revisions: Revisions, *, confirmed: bool) -> Iterable[Manifest]:
    """Every service that may be a tenant, perhaps with others."""
    if confirmed or not app.store.is_complete(MODEL_SERVICE):
        return await app.kube.list(MODEL_SERVICE)
    found = {each["metadata"]["uid"]: each for each in app.store.having(MODEL_SERVICE, str(key))}
    for owner, _ in revisions.by_owner:
        manifest = app.store.find(MODEL_SERVICE, owner.name, owner.namespace)
        if manifest is not None:
            found[manifest["metadata"]["uid"]] = manifest
    return found.values()


def _active_replicas(app: App, key: Key, revisions: Iterable[Revision]) -> int:
    view, active = app.views.get(key), active_revision(revisions)
    if view is None or active is None:
        return 0
    application = view.application(active.ray_cluster, active.application)
    return application.running if application else 0
