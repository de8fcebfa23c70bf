"""ModelServices as the commands see them: what the API server holds, read leniently.

Only the status is parsed: an older CLI must still show a service whose spec has newer fields.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from modelyard_operator.api.conditions import Condition, ConditionType
from modelyard_operator.api.model_service import ModelServiceStatus
from modelyard_operator.cli.cluster import Cluster
from modelyard_operator.cli.failure import CliFailure
from modelyard_operator.kube.client import MODEL_SERVICE, Manifest
from modelyard_operator.kube.errors import KubeError


@dataclass(frozen=True)
class Service:
    """A ModelService."""

    manifest: Manifest
    status: ModelServiceStatus

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"]["namespace"])

    @property
    def created(self) -> datetime:
        return datetime.fromisoformat(self.manifest["metadata"]["creationTimestamp"])

    @property
    def ready(self) -> Condition | None:
        return self.condition(ConditionType.READY)

    @property
    def is_ready(self) -> bool:
        return self.ready is not None and self.ready.status == "True"

    @property
    def is_behind(self) -> bool:
        """Whether the spec was changed after the operator last looked."""
        generation: int = self.manifest["metadata"].get("generation", 0)
        return (self.status.observed_generation or 0) < generation

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of this type, if the operator wrote one."""
        return next((each for each in self.status.conditions if each.type is kind), None)


async def list_services(cluster: Cluster, namespace: str | None) -> list[Service]:
    """All services of a namespace (None: of all), by namespace and name."""
    found = await cluster.kube.list(MODEL_SERVICE, namespace=namespace)
    return sorted(map(_service, found), key=lambda each: (each.namespace, each.name))


async def find_service(cluster: Cluster, name: str, namespace: str) -> Service:
    """One service; `CliFailure` with near names where there is none."""
    manifest = await cluster.kube.get(MODEL_SERVICE, name, namespace=namespace)
    if manifest is None:
        raise CliFailure(
            f"There is no ModelService {name!r} in namespace {namespace!r}.",
            _suggestion(name, namespace, await _all_services(cluster, namespace)),
        )
    return _service(manifest)


async def _all_services(cluster: Cluster, namespace: str) -> list[Service]:
    """As many services as the user may list; a hint is no reason to fail."""
    for scope in (None, namespace):
        try:
            return await list_services(cluster, scope)
        except KubeError:
            continue
    return []


def _suggestion(name: str, namespace: str, services: Iterable[Service]) -> str:
    known = list(services)
    elsewhere = [each.namespace for each in known if each.name == name]
    if elsewhere:
        return f"There is one in namespace {', '.join(elsewhere)}: add -n {elsewhere[0]}."
    near = get_close_matches(name, [each.name for each in known if each.namespace == namespace], n=3)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return "`modelyard get -A` lists those of all namespaces."


def _service(manifest: Manifest) -> Service:
    return Service(manifest, ModelServiceStatus.model_validate(manifest.get("status") or {}))
