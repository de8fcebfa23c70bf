"""What the loops share: the ways out, the settings, and what they last saw."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from modelyard_operator.api.conditions import Condition
from modelyard_operator.desired.network_policies import Peers
from modelyard_operator.desired.resolution import Platform
from modelyard_operator.gateway.client import GatewayClient
from modelyard_operator.kube.client import KubeClient, Manifest
from modelyard_operator.kube.store import Reader, Store
from modelyard_operator.kube.stored import Seen, StoredKube
from modelyard_operator.observed.view import ClusterView
from modelyard_operator.ray.client import Prober, ServeClients
from modelyard_operator.reconcile.deaths import PodDeaths
from modelyard_operator.reconcile.lease import Permit
from modelyard_operator.reconcile.pool_ledger import PoolLedger
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.revision_records import RevisionRecords
from modelyard_operator.reconcile.upkeep import Recorder, Upkeep
from modelyard_operator.reconcile.wakeups import Wakeups
from modelyard_operator.reconcile.watched import new_store
from modelyard_operator.settings import Settings
from modelyard_operator.status.conditions import is_warning, transitions

SETTLE = timedelta(seconds=5)
"""A gateway that has switched may still be connecting for a request that it took before: up to 2 s, tried twice."""


@dataclass(frozen=True)
class Routed:
    """Where all gateways lead a service's requests."""

    revision: str
    """Empty where they refuse."""
    since: datetime


@dataclass(frozen=True)
class Claim:
    """Workers that a candidate is about to take, while Ray Serve does not show it yet."""

    ray_cluster: str
    group: str
    application: str
    replicas: int


@dataclass
class App:
    """The operator's shared state. What is remembered here may be lost at any moment: it is only seen anew."""

    kube: KubeClient
    """Asks the API server."""
    serve_clients: ServeClients
    prober: Prober
    gateways: GatewayClient
    settings: Settings
    events: Recorder
    lease: Permit
    """Confirmed before each write to Ray; `kube` asks it by itself."""
    wakeups: Wakeups = field(default_factory=Wakeups)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    store: Store = field(init=False)
    """What is known of all that is watched."""
    seen: Reader = field(init=False)
    """Reads what is known; whoever takes something away asks `kube` first. See docs/design/store.md."""
    upkeep: Upkeep = field(init=False)
    """Writes children of which somebody else's changes are told."""
    records: RevisionRecords = field(init=False)
    """The revisions of all services, as they should be."""
    views: dict[Key, ClusterView] = field(default_factory=dict)
    """ServingClusters as their loops last saw them."""
    deaths: PodDeaths = field(default_factory=PodDeaths)
    """What killed Ray pods lately."""
    claims: dict[Key, Claim] = field(default_factory=dict)
    """By service: two that come up at once must not count on the same worker."""
    pools: PoolLedger = field(default_factory=PoolLedger)
    """Who has how many workers of which pool."""
    names_own_servers: bool = False
    """Whether the route document that stands leads each service to its own workers first; else to all alike."""
    routed: dict[Key, Routed] = field(default_factory=dict)
    """Where every gateway leads a service's requests; absent while they change."""

    def __post_init__(self) -> None:
        self.store = new_store(self.default_cluster)
        self.seen = Seen(self.kube, self.store)
        self.kube = StoredKube(self.kube, self.store)
        self.upkeep = Upkeep(self.kube, self.events)
        self.records = RevisionRecords(self.kube, self.upkeep)

    def leads_to(self, service: Key) -> str | None:
        """The revision that every gateway leads to; empty where they refuse, None while that is not known."""
        routed = self.routed.get(service)
        return routed.revision if routed else None

    def has_settled(self, service: Key) -> bool:
        """Whether what gateways sent the old way before they switched has arrived by now."""
        routed = self.routed.get(service)
        return routed is not None and self.clock() - routed.since >= SETTLE

    @property
    def platform(self) -> Platform:
        return Platform(
            image=self.settings.serving_image,
            ray_version=self.settings.ray_version,
            image_pull_policy=self.settings.image_pull_policy,
            redis_image=self.settings.redis_image,
        )

    @property
    def peers(self) -> Peers:
        """The platform's own pods, as NetworkPolicies name them."""
        return Peers(
            namespace=self.settings.namespace,
            operator=_labels(self.settings.operator_labels),
            gateways=_labels(self.settings.gateway_labels),
        )

    @property
    def default_cluster(self) -> tuple[str, str] | None:
        """Namespace and name of the ServingCluster for services that name none."""
        if self.settings.default_serving_cluster is None:
            return None
        namespace, _, name = self.settings.default_serving_cluster.partition("/")
        return namespace, name

    def announce(self, regarding: Manifest, previous: tuple[Condition, ...], conditions: tuple[Condition, ...]) -> None:
        """One Event for each thing that became true, even where several conditions tell it."""
        told: dict[tuple[str, str], bool] = {}
        for changed in transitions(previous, conditions):
            if changed.message:
                thing = changed.reason, changed.message
                told[thing] = told.get(thing, False) or is_warning(changed)
        for (reason, message), warning in told.items():
            self.events.publish(regarding, warning=warning, reason=reason, message=message)


def _labels(selector: str) -> dict[str, str]:
    return {key: value for key, _, value in (term.partition("=") for term in selector.split(","))}
