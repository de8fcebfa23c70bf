"""AcceleratorPool: a pool of nodes that worker pods are placed on."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from modelyard_operator.api.base import DNS_LABEL, ApiModel, ObjectMeta, StatusModel
from modelyard_operator.api.conditions import Condition
from modelyard_operator.api.quantity import QUANTITY_PATTERN

Quantity = Annotated[str, StringConstraints(pattern=QUANTITY_PATTERN, max_length=32)]
Name = Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=40)]


class Toleration(ApiModel):
    """As in a pod: lets workers onto nodes with a matching taint."""

    key: str | None = Field(default=None, description="The taint's key; leave out with operator Exists to match all.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="Equal compares the value too.")
    value: str | None = Field(default=None, description="The taint's value, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; leave out to match all."
    )


class WorkerShape(ApiModel):
    """One size of worker pod. A service gets the smallest shape that fits what it asks for."""

    name: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=20)] = Field(
        description="Short name of the shape, for example small or 1xl4."
    )
    cpu: Quantity = Field(description="CPU that a worker requests, for example 2 or 500m.")
    memory: Quantity = Field(description="Memory of a worker, request and limit, for example 4Gi.")
    accelerators: int = Field(default=0, ge=0, le=16, description="Accelerators of a worker; 0 in a pool of CPUs.")


class AcceleratorPoolSpec(ApiModel):
    """What the nodes of the pool are like and which workers fit them."""

    device: Literal["cpu", "cuda"] = Field(
        description="What torch computes on. A replica in a pool of cuda that finds no GPU fails and says so."
    )
    resource_name: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        default=None, description="The accelerator's extended resource, for example nvidia.com/gpu."
    )
    node_selector: dict[str, str] = Field(default={}, description="Labels that a node of this pool has.")
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=16, description="Taints that workers accept.")
    shapes: tuple[WorkerShape, ...] = Field(
        min_length=1, max_length=16, description="The sizes of worker that this pool offers."
    )
    max_workers: int = Field(
        default=10, ge=1, le=1000, description="Most workers of one group (shape and image) in one ServingCluster."
    )


class AcceleratorPoolStatus(StatusModel):
    """What the operator sees of the pool."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    conditions: tuple[Condition, ...] = Field(default=(), description="Accepted and Ready.")
    nodes: int | None = Field(default=None, description="Nodes that match the selector now.")
    services: int | None = Field(default=None, description="ModelServices that use the pool.")


class AcceleratorPool(StatusModel):
    """A pool of nodes, with the sizes of worker that fit them; the chart brings one named cpu."""

    metadata: ObjectMeta
    spec: AcceleratorPoolSpec
    status: AcceleratorPoolStatus = AcceleratorPoolStatus()
