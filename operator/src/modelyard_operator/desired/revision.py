"""Revisions: what a ModelService resolved to, stored in an immutable ControllerRevision.

A revision holds the rendered worker group and the rendered Serve application, so that a later release of the operator,
another default image or an edited pool changes nothing that runs.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from modelyard_operator.desired.names import (
    CLUSTER_LABEL,
    CLUSTER_NAMESPACE_LABEL,
    HELD_ANNOTATION,
    KIND_LABEL,
    MANAGED_LABEL,
    OUTLIVED_ANNOTATION,
    PHASE_ANNOTATION,
    PROVED_ANNOTATION,
    REVISION_LABEL,
    SERVICE_LABEL,
    application_name,
    revision_object_name,
    route_prefix,
)
from modelyard_operator.desired.ray_cluster import owner_reference
from modelyard_operator.desired.ray_pods import LATE_REQUESTS_S, cache_limit
from modelyard_operator.desired.resolution import Resolved
from modelyard_operator.desired.worker_group import group_resource, worker_group
from modelyard_serving.contract import (
    CACHE_ROOT,
    DEPLOYMENT,
    IMPORT_PATH,
    CacheConfig,
    ModelConfig,
    ReplicaConfig,
    Task,
)

SCHEMA = 1


class Phase(StrEnum):
    """Where a revision stands; kept in an annotation, because a ControllerRevision's data cannot change."""

    CANDIDATE = "Candidate"
    """Comes up beside the active one and proves itself."""
    ACTIVE = "Active"
    """Takes the requests."""
    YIELDING = "Yielding"
    """Makes place for one that does not fit beside it: serves until every gateway refuses, then it is replaced."""
    REPLACED = "Replaced"
    """Taken down to make place; comes back if the one in its place does not start."""
    DRAINING = "Draining"
    """Takes no new requests once every gateway has switched."""
    STOPPED = "Stopped"
    """Taken down because the service is suspended or at replicas 0; comes back as it was."""
    RETIRED = "Retired"
    """The record that its application may be removed."""


RUNNING_PHASES = frozenset({Phase.CANDIDATE, Phase.ACTIVE, Phase.YIELDING, Phase.DRAINING})
DOWN_PHASES = frozenset({Phase.STOPPED, Phase.REPLACED, Phase.RETIRED})
"""Phases that record that the application may be removed."""


@dataclass(frozen=True)
class Revision:
    """A ControllerRevision of ours."""

    namespace: str
    service: str
    name: str
    number: int
    phase: Phase
    created: str
    data: dict[str, Any]
    proved: bool = False
    """Whether it has ever been active, so that requests may still be on their way to it."""
    held_to: int | None = None
    """The most replicas that it may have while two revisions share what is there; None: as the spec says."""
    outlived: str = ""
    """What was asked for by a revision that did not start in the place of this one: see `asked`."""

    @property
    def spec_hash(self) -> str:
        return str(self.data["specHash"])

    @property
    def asked(self) -> str:
        """What the user asked for with it, for `outlived`: a new release of the operator asks for nothing new."""
        return f"{self.spec_hash} on {self.ray_cluster}"

    @property
    def application(self) -> str:
        return application_name(self.namespace, self.service, self.name)

    @property
    def object(self) -> str:
        """The name of its ControllerRevision."""
        return revision_object_name(self.service, self.name)

    @property
    def prefix(self) -> str:
        return route_prefix(self.namespace, self.service, self.name)

    @property
    def cluster_key(self) -> tuple[str, str]:
        return self.data["servingCluster"]["namespace"], self.data["servingCluster"]["name"]

    @property
    def ray_cluster(self) -> str:
        return str(self.data["rayCluster"])

    @property
    def group(self) -> dict[str, Any]:
        group: dict[str, Any] = self.data["workerGroup"]
        return group

    @property
    def is_downloaded(self) -> bool:
        """Whether its replicas download the model before they load it."""
        return "cache" in self.data["application"]["deployments"][0]["user_config"]

    @property
    def request_timeout_s(self) -> float:
        return float(self.data["requestTimeoutSeconds"])

    def at(self, phase: Phase, number: int | None = None) -> "Revision":
        """The same revision in another phase, as large as the spec says."""
        return replace(
            self,
            phase=phase,
            number=self.number if number is None else number,
            proved=self.proved or phase is Phase.ACTIVE,
            held_to=None,
        )


def new_revision(resolved: Resolved, number: int) -> Revision:
    """The candidate that `resolved` makes."""
    group = worker_group(resolved)
    data = {
        "schema": SCHEMA,
        "specHash": resolved.spec_hash,
        "servingCluster": {"namespace": resolved.cluster_namespace, "name": resolved.cluster_name},
        "rayCluster": resolved.ray_cluster,
        "pool": resolved.pool.metadata.name,
        "shape": resolved.shape.name,
        "maxWorkers": resolved.pool.spec.max_workers,
        "image": resolved.image,
        "requestTimeoutSeconds": resolved.request_timeout_s,
        "workerGroup": group,
        "application": _application(resolved, group["groupName"]),
    }
    return Revision(
        namespace=resolved.namespace,
        service=resolved.name,
        name=resolved.revision,
        number=number,
        phase=Phase.CANDIDATE,
        created="",
        data=data,
    )


def to_manifest(revision: Revision, owner_uid: str) -> dict[str, Any]:
    """The ControllerRevision that holds `revision`."""
    cluster_namespace, cluster_name = revision.cluster_key
    marks = {
        PROVED_ANNOTATION: "true" if revision.proved else "",
        HELD_ANNOTATION: "" if revision.held_to is None else str(revision.held_to),
        OUTLIVED_ANNOTATION: revision.outlived,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision.object,
            "namespace": revision.namespace,
            "labels": {
                MANAGED_LABEL: "true",
                KIND_LABEL: "modelservice",
                SERVICE_LABEL: revision.service,
                REVISION_LABEL: revision.name,
                CLUSTER_LABEL: cluster_name,
                CLUSTER_NAMESPACE_LABEL: cluster_namespace,
            },
            "annotations": {PHASE_ANNOTATION: revision.phase.value}
            | {mark: text for mark, text in marks.items() if text},
            "ownerReferences": [owner_reference("ModelService", revision.service, owner_uid)],
        },
        "data": revision.data,
        "revision": revision.number,
    }


def from_manifest(manifest: dict[str, Any]) -> Revision:
    """Read a ControllerRevision back.

    Raises:
        ValueError: it is not one that this operator understands.
    """
    try:
        metadata, data = manifest["metadata"], manifest["data"]
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']} is not {SCHEMA}")
        annotations = metadata.get("annotations", {})
        return Revision(
            namespace=metadata["namespace"],
            service=metadata["labels"][SERVICE_LABEL],
            name=metadata["labels"][REVISION_LABEL],
            number=int(manifest["revision"]),
            phase=Phase(annotations.get(PHASE_ANNOTATION, "")),
            created=metadata.get("creationTimestamp", ""),
            data=data,
            proved=annotations.get(PROVED_ANNOTATION) == "true",
            held_to=int(annotations[HELD_ANNOTATION]) if HELD_ANNOTATION in annotations else None,
            outlived=annotations.get(OUTLIVED_ANNOTATION, ""),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a revision of a ModelService: {error!r} is missing or wrong") from error


def _application(resolved: Resolved, group_name: str) -> dict[str, Any]:
    """The fixed part of the Serve application; `serve_config` adds how many replicas there should be."""
    config = ReplicaConfig(
        service=f"{resolved.namespace}/{resolved.name}",
        revision=resolved.revision,
        model=ModelConfig(
            uri=resolved.uri, path=resolved.model_path, task=Task(resolved.task) if resolved.task else None
        ),
        cache=CacheConfig(path=CACHE_ROOT, limit_bytes=cache_limit(resolved.cache)) if resolved.cache else None,
        device=resolved.pool.spec.device,
        threads=max(1, math.ceil(resolved.shape.cpus)),
        memory_bytes=resolved.shape.memory_bytes,
        request_timeout_s=resolved.request_timeout_s,
    )
    actor: dict[str, Any] = {"num_cpus": 0, "resources": {group_resource(group_name): 1}}
    if resolved.accelerators:
        actor["num_gpus"] = resolved.accelerators_per_replica
    return {
        "name": application_name(resolved.namespace, resolved.name, resolved.revision),
        "route_prefix": route_prefix(resolved.namespace, resolved.name, resolved.revision),
        "import_path": IMPORT_PATH,
        "logging_config": {"encoding": "JSON", "log_level": "INFO", "enable_access_log": False},
        "deployments": [
            {
                "name": DEPLOYMENT,
                "user_config": config.as_user_config(),
                # Far above what the engine runs at once: admission, queue and 429 belong to the replica.
                "max_ongoing_requests": 1000,
                # A request may still come in the first seconds, and has all its time.
                "graceful_shutdown_timeout_s": resolved.request_timeout_s + LATE_REQUESTS_S,
                "graceful_shutdown_wait_loop_s": 1,
                "health_check_period_s": 10,
                "health_check_timeout_s": 30,
                "ray_actor_options": actor,
            }
        ],
    }
