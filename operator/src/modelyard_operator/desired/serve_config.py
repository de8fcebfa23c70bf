"""The Serve config of one RayCluster: one document, all applications, written whole."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard_operator.api.model_service import ModelServiceSpec
from modelyard_operator.desired.names import SERVE_PORT
from modelyard_operator.desired.revision import RUNNING_PHASES, Revision
from modelyard_operator.desired.scaling import scaling
from modelyard_operator.observed.serve import ApplicationFacts

GRPC_PORT = 9000

Fragment = dict[str, Any]
"""One application in a Serve config."""


@dataclass(frozen=True)
class Tenant:
    """A service with its revisions, as far as the Serve config depends on them."""

    spec: ModelServiceSpec | None
    """None: it cannot be read now; what runs of it stays as it stands."""
    revisions: tuple[Revision, ...]
    active_replicas: int = 0


def fragments(tenants: Iterable[Tenant], ray_cluster: str) -> dict[str, dict[str, Any]]:
    """The applications that should run on `ray_cluster`, by name."""
    wanted: dict[str, dict[str, Any]] = {}
    for tenant in tenants:
        for revision in tenant.revisions:
            if tenant.spec is not None and revision.phase in RUNNING_PHASES and revision.ray_cluster == ray_cluster:
                wanted[revision.application] = _fragment(tenant.spec, tenant.active_replicas, revision)
    return wanted


def stand_ins(tenants: Iterable[Tenant], ray_cluster: str) -> dict[str, Fragment]:
    """The applications of services that cannot be read now, with one replica: for a Ray that has forgotten them."""
    return {
        revision.application: {
            **revision.data["application"],
            "deployments": [{**revision.data["application"]["deployments"][0], "num_replicas": 1}],
        }
        for tenant in tenants
        for revision in tenant.revisions
        if tenant.spec is None and revision.phase in RUNNING_PHASES and revision.ray_cluster == ray_cluster
    }


def serve_config(applications: Mapping[str, Fragment]) -> dict[str, Any]:
    """The whole config that runs `applications`."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT, "keep_alive_timeout_s": 90},
        "grpc_options": {
            "port": GRPC_PORT,
            "grpc_servicer_functions": ["ray.serve.generated.serve_pb2_grpc.add_RayServeAPIServiceServicer_to_server"],
        },
        "applications": [applications[name] for name in sorted(applications)],
    }


def _fragment(spec: ModelServiceSpec, active_replicas: int, revision: Revision) -> dict[str, Any]:
    application = revision.data["application"]
    size = scaling(spec, revision.phase, active_replicas, revision.held_to)
    deployment = {**application["deployments"][0], **size}
    return {**application, "deployments": [deployment]}


def keeping_sizes(
    wanted: Mapping[str, dict[str, Any]], applications: Mapping[str, ApplicationFacts]
) -> dict[str, dict[str, Any]]:
    """`wanted`, with autoscaled applications that run beginning from the replicas that they have.

    At any change of its config Ray Serve sets a deployment back to `initial_replicas`. What was written there before is
    no reason for a change.
    """
    return {name: _keeping_size(fragment, applications.get(name)) for name, fragment in wanted.items()}


def _keeping_size(fragment: dict[str, Any], facts: ApplicationFacts | None) -> dict[str, Any]:
    (deployment,) = fragment["deployments"]
    auto = deployment.get("autoscaling_config")
    if auto is None or facts is None or facts.config is None:
        return fragment

    def beginning_with(replicas: int) -> dict[str, Any]:
        return {
            **fragment,
            "deployments": [{**deployment, "autoscaling_config": {**auto, "initial_replicas": replicas}}],
        }

    before = (facts.config["deployments"][0].get("autoscaling_config") or {}).get("initial_replicas")
    if before is not None and beginning_with(before) == facts.config:
        return facts.config
    return beginning_with(min(max(facts.target, auto["min_replicas"]), auto["max_replicas"]))


@dataclass(frozen=True)
class ServeChange:
    """What writing the config would do."""

    applications: Mapping[str, Fragment]
    """All that should run."""
    before: Mapping[str, Fragment]
    """Those of them that Ray was given before, as it was given them."""
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """Applications that nothing asks for but whose retirement is not recorded: they stay."""

    @property
    def needed(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def config(self) -> dict[str, Any]:
        return serve_config(self.applications)

    @property
    def novel(self) -> tuple[str, ...]:
        """The applications that Ray has not accepted yet as they should be."""
        return (*self.added, *self.changed)

    def without(self, names: Collection[str]) -> dict[str, Fragment]:
        """All that should run, but `names` as they were before, or not at all where they are new."""
        rest = {name: fragment for name, fragment in self.applications.items() if name not in names}
        return {**rest, **{name: self.before[name] for name in names if name in self.before}}


def serve_change(
    wanted: Mapping[str, dict[str, Any]],
    standing: Mapping[str, dict[str, Any] | None],
    retired: Iterable[str],
) -> ServeChange:
    """Compare what should run with what Ray says that it was given (`standing`: name to config, None where unknown).

    An application leaves the config only when its name is in `retired`.
    """
    may_go = set(retired)
    kept = {n: c for n, c in standing.items() if n not in wanted and n not in may_go and c is not None}
    applications = {**kept, **wanted}
    return ServeChange(
        applications=applications,
        before={n: c for n, c in standing.items() if n in applications and c is not None},
        added=tuple(sorted(n for n in wanted if n not in standing)),
        changed=tuple(sorted(n for n, c in wanted.items() if n in standing and standing[n] != c)),
        # What Ray has no config of was not deployed by one, and none can remove it.
        removed=tuple(sorted(n for n, c in standing.items() if n not in applications and c is not None)),
        kept=tuple(sorted(kept)),
    )
