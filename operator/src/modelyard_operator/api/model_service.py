"""ModelService: one served model."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from modelyard_operator.api.accelerator_pool import Name, Quantity
from modelyard_operator.api.base import DNS_LABEL, ApiModel, ObjectMeta, StatusModel
from modelyard_operator.api.conditions import Condition
from modelyard_operator.api.quantity import DURATION_PATTERN

SOURCE_PATTERN = r"^pvc://[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[A-Za-z0-9][A-Za-z0-9._-]*)+$"
Duration = Annotated[str, StringConstraints(pattern=DURATION_PATTERN, max_length=32)]


class ModelSource(ApiModel):
    """Where the model's files are."""

    uri: Annotated[str, StringConstraints(pattern=SOURCE_PATTERN, max_length=512)] = Field(
        description="pvc://<claim>/<folder>: a folder on a claim that the ServingCluster mounts (spec.runtime.volumes)."
    )


class Model(ApiModel):
    """The model and what it does."""

    source: ModelSource = Field(description="Where the model's files are.")
    task: Literal["text-generation"] | None = Field(
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
    count: int | None = Field(
        default=None, ge=1, le=1, description="Accelerators for each replica. More than 1 needs tensor parallelism, not offered yet."
    )


class Resources(ApiModel):
    """What each replica needs; picks the smallest worker shape of the pool that fits."""

    cpu: Quantity | None = Field(default=None, description="CPU, for example 2 or 500m.")
    memory: Quantity | None = Field(default=None, description="Memory, for example 2Gi.")


class Autoscaling(ApiModel):
    """Replicas by load."""

    min_replicas: int = Field(default=1, ge=0, le=1000, description="Fewest replicas; 0 lets an idle service go.")
    max_replicas: int = Field(ge=1, le=1000, description="Most replicas.")
    target_ongoing_requests: int = Field(
        default=8, ge=1, le=1000, description="Requests at once for each replica that the autoscaler aims at."
    )
    upscale_delay: Duration = Field(default="5s", description="How long the load must last before replicas are added.")
    downscale_delay: Duration = Field(default="5m", description="How long it must be gone before replicas go.")


class ModelServiceSpec(ApiModel):
    """One served model."""

    model: Model = Field(description="The model and what it does.")
    serving_cluster: ServingClusterRef | None = Field(
        default=None, description="The Ray capacity to use; the platform's default where left out."
    )
    accelerator: Accelerator = Field(default=Accelerator(), description="Which nodes the model runs on.")
    resources: Resources = Field(default=Resources(), description="What each replica needs.")
    replicas: int | None = Field(
        default=None, ge=0, le=1000,
        description="A fixed number of replicas; one where neither this nor autoscaling is set. 0 stops the service.",
    )  # fmt: skip
    autoscaling: Autoscaling | None = Field(default=None, description="Replicas by load, instead of replicas.")
    suspend: bool = Field(default=False, description="Stop the service and answer 503, without forgetting anything.")
    request_timeout: Duration = Field(
        default="1h", description="Longest time that a request may take, and that a replica may take to finish them; at most 24h."
    )


class RevisionStatus(StatusModel):
    """A revision that runs."""

    name: str = Field(description="Eight hexadecimal digits.")
    phase: str = Field(description="Candidate, Active or Draining.")
    traffic: int = Field(default=0, description="Share of the requests in per cent.")
    message: str = Field(default="", description="What it does or waits for now.")


class ColdStart(StatusModel):
    """Where the time went when the active revision first came up, in seconds."""

    revision: str = Field(description="The revision that was started.")
    scheduling: float | None = Field(default=None, description="From the worker pod's creation to its node.")
    image: float | None = Field(default=None, description="From the node to a running container: pulling and starting.")
    ray_join: float | None = Field(default=None, description="From the running container to a replica process.")
    imports: float | None = Field(default=None, description="The replica's own imports.")
    load: float | None = Field(default=None, description="Reading the weights.")
    warmup: float | None = Field(default=None, description="The engine's warm-up.")
    proof: float | None = Field(default=None, description="The first real inference.")
    total: float | None = Field(default=None, description="From the revision's creation to its proof.")


class ModelServiceStatus(StatusModel):
    """What the operator sees of the service."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    conditions: tuple[Condition, ...] = Field(default=(), description="Accepted, Available, Progressing, Degraded, Ready.")
    url: str | None = Field(default=None, description="Where the service answers inside the cluster.")
    serving_cluster: str | None = Field(default=None, description="<namespace>/<name> of the ServingCluster.")
    worker_shape: str | None = Field(default=None, description="<pool>/<shape> of the workers.")
    active_revision: str | None = Field(default=None, description="The revision that takes the requests.")
    revisions: tuple[RevisionStatus, ...] = Field(default=(), description="The revisions that run.")
    replicas: int = Field(default=0, description="Replicas that serve, for the scale subresource.")
    desired_replicas: int = Field(default=0, description="Replicas that there should be.")
    selector: str | None = Field(default=None, description="Label selector of the revisions, for the scale subresource.")
    cold_start: ColdStart | None = Field(default=None, description="Where the last start spent its time.")
    last_change: datetime | None = Field(default=None, description="When the active revision last changed.")


class ModelService(StatusModel):
    """One served model: its source, its scaling, its rollout."""

    metadata: ObjectMeta
    spec: ModelServiceSpec
    status: ModelServiceStatus = ModelServiceStatus()
