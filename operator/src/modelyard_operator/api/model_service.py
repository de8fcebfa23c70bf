"""ModelService: one served model."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict, StringConstraints

from modelyard_operator.api.base import DNS_LABEL, ApiModel, Name, ObjectMeta, StatusModel, name_rule
from modelyard_operator.api.conditions import Conditions
from modelyard_operator.api.quantity import Cpu, Memory, duration_between
from modelyard_operator.api.rule import Rule, Unique, matching

SourceUri = Annotated[
    str,
    StringConstraints(max_length=512),
    matching(
        r"(pvc://[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?(/[A-Za-z0-9][A-Za-z0-9._-]*)+"
        r"|hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._/-]*)?"
        r"|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._=+-]*)+(@[0-9a-f]{16})?"
        r"|oci://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"
        r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|@sha256:[0-9a-f]{64}))",
        "must be pvc://<claim>/<folder>, for example pvc://models/smollm2: a claim that the ServingCluster "
        "mounts, and the folder on it without . or .. and without a slash at the end, "
        "hf://<org>/<repository>[@<revision>], for example hf://HuggingFaceTB/SmolLM2-135M-Instruct@main, "
        "s3://<bucket>/<prefix>[@<version>], for example s3://models/llms/smollm2: a version has 16 hexadecimal "
        "digits, or oci://<registry>/<repository>:<tag> or @sha256:<digest>, for example "
        "oci://registry.example.com/models/smollm2:v1",
    ),
]
RequestTimeout = Annotated[str, StringConstraints(max_length=32), duration_between("1s", "24h")]
Delay = Annotated[str, StringConstraints(max_length=32), duration_between("0s", "24h")]
AcceleratorCount = Annotated[
    int,
    Strict(),
    Rule(
        cel="self == 1",
        holds=lambda count: count == 1,
        message="must be 1 or left out: tensor parallelism over several accelerators is not offered yet",
    ),
]


class ModelSource(ApiModel):
    """Where the model's files are."""

    uri: SourceUri = Field(
        description="pvc://<claim>/<folder>: a folder on a claim that the ServingCluster mounts "
        "(spec.runtime.volumes). In local mode --volume <claim>=<directory> stands in for the claim. "
        "hf://<org>/<repository>[@<revision>]: a repository of a hub. s3://<bucket>/<prefix>[@<version>]: what has "
        "that prefix in a bucket. oci://<registry>/<repository>:<tag> or @sha256:<digest>: an artifact of a registry. "
        "These are downloaded into the ServingCluster's spec.modelCache; docs/sources.md tells where endpoints and "
        "credentials come from."
    )


TaskName = Literal[
    "text-generation", "embeddings", "text-classification", "rerank", "image-classification",
    "automatic-speech-recognition", "tensor", "recommend",
]  # fmt: skip


class Model(ApiModel):
    """The model and what it does."""

    source: ModelSource = Field(description="Where the model's files are.")
    task: TaskName | None = Field(
        default=None, description="What the model does; may be left out where the model's own files say it."
    )


class ServingClusterRef(ApiModel):
    """A ServingCluster by name."""

    name: Name = Field(description="Name of the ServingCluster.")
    namespace: Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)] | None = Field(
        default=None, description="Its namespace; that of the ModelService where left out."
    )


class Accelerator(ApiModel):
    """Which nodes the model runs on."""

    pool: Name = Field(default="cpu", description="Name of an AcceleratorPool.")
    count: AcceleratorCount | None = Field(
        default=None,
        description="Accelerators for each replica in a pool that has them: 1, and 1 where left out.",
    )


class Resources(ApiModel):
    """What each replica needs; picks the smallest worker shape of the pool that fits."""

    cpu: Cpu | None = Field(default=None, description="CPU, for example 2 or 500m.")
    memory: Memory | None = Field(default=None, description="Memory, for example 2Gi.")


class Autoscaling(ApiModel):
    """Replicas by load."""

    min_replicas: int = Field(
        default=1, ge=0, le=1000, strict=True, description="Fewest replicas; 0 lets an idle service go."
    )
    max_replicas: int = Field(ge=1, le=1000, strict=True, description="Most replicas.")
    target_ongoing_requests: int = Field(
        default=8,
        ge=1,
        le=1000,
        strict=True,
        description="Requests at once for each replica that the autoscaler aims at.",
    )
    upscale_delay: Delay = Field(default="5s", description="How long the load must last before replicas are added.")
    downscale_delay: Delay = Field(default="5m", description="How long it must be gone before replicas go.")

    RULES: ClassVar = (
        Rule(
            cel="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
            field=".minReplicas",
            message="spec.autoscaling.minReplicas must not be above maxReplicas: lower it or raise that",
        ),
    )


class Rollout(ApiModel):
    """How a new revision takes over."""

    on_no_headroom: Literal["Wait", "Replace"] = Field(
        default="Wait",
        description="What happens where a new revision does not fit beside the old one. Wait: the old one serves on "
        "until there is room. Replace: the old one makes place; with one replica requests get 503 until the new one "
        "serves, and if that does not start the old one comes back.",
    )


class ModelServiceSpec(ApiModel):
    """One served model."""

    model: Model = Field(description="The model and what it does.")
    serving_cluster: ServingClusterRef | None = Field(
        default=None, description="The Ray capacity to use; the platform's default where left out."
    )
    accelerator: Accelerator = Field(default=Accelerator(), description="Which nodes the model runs on.")
    resources: Resources = Field(default=Resources(), description="What each replica needs.")
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        strict=True,
        description="A fixed number of replicas, one where autoscaling is not set either; 0 stops it.",
    )
    autoscaling: Autoscaling | None = Field(default=None, description="Replicas by load, instead of replicas.")
    suspend: bool = Field(
        default=False,
        strict=True,
        description="Stop the service and answer 503, without forgetting anything.",
    )
    rollout: Rollout = Field(default=Rollout(), description="How a new revision takes over.")
    request_timeout: RequestTimeout = Field(
        default="1h",
        description="Longest time that a request may take, and a replica to finish its last ones; 1s to 24h.",
    )

    RULES: ClassVar = (
        Rule(
            cel="!(has(self.replicas) && has(self.autoscaling))",
            holds=lambda spec: spec.replicas is None or spec.autoscaling is None,
            field=".replicas",
            message="spec.replicas and spec.autoscaling exclude each other: keep one of them",
        ),
    )


class RevisionStatus(StatusModel):
    """A revision that runs."""

    name: str = Field(description="Eight hexadecimal digits.")
    phase: str = Field(description="Candidate, Active, Yielding, Replaced or Draining.")
    traffic: int = Field(default=0, description="Share of the requests in per cent.")
    message: str = Field(default="", description="What it does or waits for now.")


class ColdStart(StatusModel):
    """Where the time went when the active revision first came up, in seconds."""

    revision: str = Field(description="The revision that was started.")
    provisioning: float | None = Field(
        default=None, description="Until there was a worker pod: the Ray head, and its autoscaler's decision."
    )
    scheduling: float | None = Field(default=None, description="From the worker pod's creation to its node.")
    image: float | None = Field(default=None, description="From the node to a running container: pulling and starting.")
    ray_join: float | None = Field(default=None, description="From the running container to a replica process.")
    download: float | None = Field(
        default=None, description="Having the model in the cache; absent where it is not downloaded."
    )
    imports: float | None = Field(default=None, description="The replica's own imports.")
    load: float | None = Field(default=None, description="Reading the weights.")
    warmup: float | None = Field(default=None, description="The engine's warm-up.")
    proof: float | None = Field(default=None, description="The first real inference.")
    total: float | None = Field(default=None, description="From the revision's creation to its proof.")


class PlanStep(StatusModel):
    """A step of the rollout that is still to come, or under way."""

    step: str = Field(description="What is done or waited for.")
    seconds: float | None = Field(
        default=None, description="How long it took the last time; absent where nobody can know."
    )
    at_most: float | None = Field(default=None, description="The longest that it may take, in seconds.")


class ModelServiceStatus(StatusModel):
    """What the operator sees of the service."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    conditions: Conditions = Field(default=(), description="Accepted, Available, Progressing, Degraded, Ready.")
    url: str | None = Field(default=None, description="Where the service answers inside the cluster.")
    serving_cluster: str | None = Field(default=None, description="<namespace>/<name> of the ServingCluster.")
    worker_shape: str | None = Field(default=None, description="<pool>/<shape> of the workers.")
    active_revision: str | None = Field(default=None, description="The revision that takes the requests.")
    revisions: Annotated[tuple[RevisionStatus, ...], Unique("name")] = Field(
        default=(), description="The revisions that run."
    )
    replicas: int = Field(default=0, description="Replicas that serve, for the scale subresource.")
    desired_replicas: int = Field(default=0, description="Replicas that there should be.")
    selector: str | None = Field(
        default=None, description="Label selector of the revisions, for the scale subresource."
    )
    plan: tuple[PlanStep, ...] | None = Field(
        default=None, description="The steps to the end of the rollout that is under way, in order."
    )
    cold_start: ColdStart | None = Field(default=None, description="Where the last start spent its time.")
    last_change: datetime | None = Field(default=None, description="When the active revision last changed.")


class ModelService(StatusModel):
    """One served model: its source, its scaling, its rollout."""

    metadata: ObjectMeta
    spec: ModelServiceSpec = Field(description="What to serve, where, and how many of it.")
    status: ModelServiceStatus = Field(
        default=ModelServiceStatus(),
        description="What the operator sees of the service; written by the operator alone.",
    )

    RULES: ClassVar = (name_rule("a ModelService"),)
