"""From a ModelService, its ServingCluster and its AcceleratorPool to what a revision needs, or why there is none."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from modelyard_operator.api.accelerator_pool import AcceleratorPool, WorkerShape
from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.model_service import ModelService, ModelServiceSpec
from modelyard_operator.api.quantity import format_bytes, parse_bytes, parse_duration, parse_quantity
from modelyard_operator.api.serving_cluster import ModelCache, Runtime, ServingCluster
from modelyard_operator.desired.names import digest
from modelyard_serving.contract import MODELS_ROOT

CLAIM_SCHEME = "pvc://"
"""Of models that lie on a claim; all others are downloaded."""


@dataclass(frozen=True)
class Platform:
    """What the platform decides where a spec is silent."""

    image: str
    ray_version: str
    image_pull_policy: str
    redis_image: str


@dataclass(frozen=True)
class Rejection:
    """Why a spec cannot be served, in words that name the field and the fix."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Resolved:
    """A ModelService with every reference followed and every default put in."""

    namespace: str
    name: str
    spec_hash: str
    """Of what the user wrote and a revision depends on: as long as it stands, nothing that runs is touched."""
    uri: str
    model_path: str
    """Empty where the model is downloaded."""
    task: str | None
    pool: AcceleratorPool
    shape: WorkerShape
    accelerators: int
    runtime: Runtime
    image: str
    image_pull_policy: str
    cluster_namespace: str
    cluster_name: str
    ray_cluster: str
    request_timeout_s: float
    outlives_head: bool
    """Whether its workers go on while the Ray head is replaced."""
    queue_name: str | None = None
    cache: ModelCache | None = None
    """Where the model is downloaded to; None where it lies on a claim."""

    @property
    def accelerators_per_replica(self) -> float:
        """As many as asked for, or a replica's part of a worker that has fewer for each."""
        return min(self.accelerators, _accelerators_of(self.shape))

    @property
    def asked(self) -> str:
        """As `Revision.asked` of the revision that this makes."""
        return f"{self.spec_hash} on {self.ray_cluster}"

    @property
    def revision(self) -> str:
        """Eight hexadecimal digits: the same resolved spec is the same revision."""
        return digest(
            {
                "spec": self.spec_hash,
                "pool": self.pool.spec.model_dump(
                    mode="json", exclude={"shapes", "max_workers", "allowed_namespaces", "limits"}
                ),
                "shape": _shape_fields(self.shape),
                "runtime": self.runtime.model_dump(mode="json"),
                "image": self.image,
                "rayCluster": f"{self.cluster_namespace}/{self.ray_cluster}",
                **({"cache": self.cache.model_dump(mode="json")} if self.cache is not None else {}),
            }
        )


def _shape_fields(shape: WorkerShape) -> dict[str, Any]:
    """What a revision depends on; a field that came later counts only where it is used."""
    unused = {"replicas_per_worker"} if shape.replicas_per_worker == 1 else set()
    return shape.model_dump(mode="json", exclude=unused)


def spec_hash(spec: ModelServiceSpec) -> str:
    """A hash of the fields that a revision depends on: scaling and suspension are not among them."""
    fields = spec.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude_defaults=True,
        include={"model", "serving_cluster", "accelerator", "resources", "request_timeout"},
    )
    return digest(fields)


def cluster_key(service: ModelService, default: tuple[str, str] | None) -> tuple[str, str] | None:
    """Namespace and name of the ServingCluster that a service is bound to, or None where nobody names one."""
    ref = service.spec.serving_cluster
    if ref is not None:
        return ref.namespace or service.metadata.namespace, ref.name
    return default


def resolve(
    service: ModelService,
    cluster: ServingCluster,
    pool: AcceleratorPool,
    ray_cluster: str,
    platform: Platform,
) -> Resolved | Rejection:
    """Follow the references of `service`; `ray_cluster` is where `cluster` puts new revisions now."""
    spec = service.spec
    path = _path_on_claim(spec.model.source.uri, cluster)
    if isinstance(path, Rejection):
        return path
    wanted = _wanted_accelerators(spec, pool)
    shape = _smallest_shape(spec, pool, wanted)
    if isinstance(shape, Rejection):
        return shape
    return Resolved(
        namespace=service.metadata.namespace,
        name=service.metadata.name,
        spec_hash=spec_hash(spec),
        uri=spec.model.source.uri,
        model_path=path or "",
        cache=cluster.spec.model_cache if path is None else None,
        task=spec.model.task,
        pool=pool,
        shape=shape,
        accelerators=wanted,
        runtime=cluster.spec.runtime,
        image=cluster.spec.runtime.image or platform.image,
        image_pull_policy=platform.image_pull_policy,
        cluster_namespace=cluster.metadata.namespace,
        cluster_name=cluster.metadata.name,
        ray_cluster=ray_cluster,
        request_timeout_s=parse_duration(spec.request_timeout),
        outlives_head=cluster.spec.high_availability,
        queue_name=cluster.spec.queue_name,
    )


def _path_on_claim(uri: str, cluster: ServingCluster) -> str | Rejection | None:
    """Where a worker has the model; None where it is downloaded."""
    if not uri.startswith(CLAIM_SCHEME):
        return None
    claim, _, folder = uri.removeprefix(CLAIM_SCHEME).partition("/")
    mounted = [volume.claim for volume in cluster.spec.runtime.volumes]
    if claim in mounted:
        return str(PurePosixPath(MODELS_ROOT) / claim / folder)
    where = f"ServingCluster {cluster.metadata.namespace}/{cluster.metadata.name}"
    return Rejection(
        Reason.VOLUME_NOT_MOUNTED,
        f"spec.model.source.uri names the claim {claim!r}, which {where} does not mount (it mounts: "
        f"{', '.join(mounted) or 'none'}). Add {{claim: {claim}}} to its spec.runtime.volumes, "
        "or name another claim.",
    )


def _wanted_accelerators(spec: ModelServiceSpec, pool: AcceleratorPool) -> int:
    if spec.accelerator.count is not None:
        return spec.accelerator.count
    return 0 if pool.spec.device == "cpu" else 1


def _smallest_shape(spec: ModelServiceSpec, pool: AcceleratorPool, accelerators: int) -> WorkerShape | Rejection:
    memory = parse_bytes(spec.resources.memory or "0")
    cpu = parse_quantity(spec.resources.cpu or "0")
    fitting = [
        shape
        for shape in pool.spec.shapes
        if shape.memory_bytes >= memory and shape.cpus >= cpu and shape.accelerators >= accelerators
    ]
    if fitting:
        return min(fitting, key=lambda s: (_accelerators_of(s), s.memory_bytes, s.cpus, s.name))
    asked = {
        "spec.resources.memory": format_bytes(memory) if memory else None,
        "spec.resources.cpu": spec.resources.cpu,
        "spec.accelerator.count": str(accelerators) if accelerators else None,
    }
    asks = ", ".join(f"{field} {value}" for field, value in asked.items() if value)
    offers = "; ".join(map(_offer, pool.spec.shapes))
    return Rejection(
        Reason.NO_SHAPE_FITS,
        f"No worker shape of AcceleratorPool {pool.metadata.name} has {asks}. It offers {offers}. "
        "Ask for less, name another pool in spec.accelerator.pool, or have a larger shape added to the pool.",
    )


def _accelerators_of(shape: WorkerShape) -> float:
    """What one replica may count on."""
    return shape.accelerators / shape.replicas_per_worker


def _offer(shape: WorkerShape) -> str:
    shared = f" for {shape.replicas_per_worker} replicas" if shape.replicas_per_worker > 1 else ""
    return f"{shape.name}: {shape.memory} memory, {shape.cpu} cpu, {shape.accelerators} accelerators{shared}"
