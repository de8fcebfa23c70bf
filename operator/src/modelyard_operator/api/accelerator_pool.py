"""AcceleratorPool: a pool of nodes that worker pods are placed on."""

from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict, StringConstraints

from modelyard_operator.api.base import DNS_LABEL, ApiModel, ObjectMeta, StatusModel, name_rule
from modelyard_operator.api.conditions import Conditions
from modelyard_operator.api.namespaces import AllowedNamespaces, LabelValue
from modelyard_operator.api.quantity import Cpu, Memory, parse_bytes, parse_quantity
from modelyard_operator.api.rule import Rule, Unique, matching

TaintKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$", max_length=317)]
ResourceName = Annotated[
    str,
    StringConstraints(max_length=100),
    matching(
        r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
        "must be an extended resource with its domain, for example nvidia.com/gpu",
    ),
]


class Toleration(ApiModel):
    """As in a pod: lets workers onto nodes with a matching taint."""

    key: TaintKey | None = Field(
        default=None, description="The taint's key; leave out with operator Exists to match every taint."
    )
    operator: Literal["Exists", "Equal"] = Field(
        default="Equal", description="Equal compares the taint's value too; Exists takes any value."
    )
    value: LabelValue | None = Field(default=None, description="The taint's value, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; leave out to match all effects."
    )

    RULES: ClassVar = (
        Rule(
            cel="!(has(self.operator) && self.operator == 'Exists' && has(self.value))",
            holds=lambda toleration: toleration.operator != "Exists" or toleration.value is None,
            field=".value",
            message="value of a toleration has no meaning with operator Exists: remove it, or use Equal",
        ),
        Rule(
            cel="has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            holds=lambda toleration: toleration.key is not None or toleration.operator == "Exists",
            message="key of a toleration is needed with operator Equal: set key, or use operator Exists",
        ),
    )


class WorkerShape(ApiModel):
    """One size of worker pod. A service gets the smallest shape that fits what it asks for."""

    name: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=20)] = Field(
        description="Short name of the shape, for example small or 1xl4."
    )
    cpu: Cpu = Field(description="CPU that a worker requests, for example 2 or 500m.")
    memory: Memory = Field(description="Memory of a worker, request and limit, for example 4Gi.")
    accelerators: int = Field(
        default=0,
        ge=0,
        le=16,
        strict=True,
        description="Accelerators of a worker, at least 1 with device cuda; none with device cpu.",
    )
    replicas_per_worker: int = Field(
        default=1,
        ge=1,
        le=16,
        strict=True,
        description="Replicas, of any services, that share a worker: each may count on its part of cpu, memory and "
        "accelerators, but one that takes more takes it from the others, and one that runs out of memory takes them "
        "down with it. 1 where left out: nothing is shared.",
    )

    @property
    def memory_bytes(self) -> int:
        """What one replica may count on."""
        return parse_bytes(self.memory) // self.replicas_per_worker

    @property
    def cpus(self) -> Decimal:
        """What one replica may count on."""
        return parse_quantity(self.cpu) / self.replicas_per_worker

    RULES: ClassVar = (
        Rule(
            cel="!has(self.replicasPerWorker) || !has(self.accelerators) || self.accelerators == 0"
            " || self.replicasPerWorker % self.accelerators == 0 || self.accelerators % self.replicasPerWorker == 0",
            holds=lambda shape: (
                shape.accelerators == 0
                or shape.replicas_per_worker % shape.accelerators == 0
                or shape.accelerators % shape.replicas_per_worker == 0
            ),
            field=".replicasPerWorker",
            message="replicasPerWorker of a shape must be a multiple or a divisor of its accelerators, so that each "
            "replica gets the same part of them: for example 2 or 4 with 2 accelerators",
        ),
    )


Workers = Annotated[int, Strict(), Field(ge=1, le=10_000)]


class NamespaceLimit(ApiModel):
    """How much of a pool one namespace may use."""

    name: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)] = Field(
        description="The namespace of the ModelServices."
    )
    max_workers: Workers = Field(description="Most workers of its services together.")


class PoolLimits(ApiModel):
    """Most workers over all ServingClusters, each left out where there is no such limit."""

    max_workers: Workers | None = Field(default=None, description="Most workers of the pool in total.")
    max_workers_per_namespace: Workers | None = Field(
        default=None, description="Most workers of the services of each namespace that namespaces does not name."
    )
    namespaces: Annotated[tuple[NamespaceLimit, ...], Unique("name")] = Field(
        default=(), max_length=256, description="Limits of single namespaces."
    )

    RULES: ClassVar = (
        Rule(
            cel="has(self.maxWorkers) || has(self.maxWorkersPerNamespace) "
            "|| (has(self.namespaces) && size(self.namespaces) > 0)",
            holds=lambda limits: bool(limits.max_workers or limits.max_workers_per_namespace or limits.namespaces),
            message="spec.limits needs maxWorkers, maxWorkersPerNamespace or namespaces: set one, or leave limits out",
        ),
    )


class AcceleratorPoolSpec(ApiModel):
    """What the nodes of the pool are like and which workers fit them."""

    device: Literal["cpu", "cuda"] = Field(
        description="What torch computes on. A replica in a pool of cuda that finds no GPU fails and says so."
    )
    resource_name: ResourceName | None = Field(
        default=None,
        description="The accelerator's extended resource, for example nvidia.com/gpu; for device cuda.",
    )
    node_selector: dict[str, LabelValue] = Field(
        default={},
        max_length=16,
        description="Labels that a node of this pool has; every node where left out.",
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=16, description="Taints of the pool's nodes that its workers accept."
    )
    shapes: Annotated[tuple[WorkerShape, ...], Unique("name")] = Field(
        min_length=1, max_length=16, description="The sizes of worker that this pool offers."
    )
    max_workers: int = Field(
        default=10,
        ge=1,
        le=1000,
        strict=True,
        description="Most workers of one group (shape and image) in one ServingCluster; limits bounds all together.",
    )
    limits: PoolLimits | None = Field(
        default=None,
        description="Most workers over all ServingClusters, in total and by namespace. What is scarce is divided "
        "fairly between namespaces; the minimum of a running service is never taken away.",
    )
    allowed_namespaces: AllowedNamespaces | None = Field(
        default=None,
        description="Namespaces whose ModelServices may use the pool, All or by Selector; all where left out. "
        "What already runs of others runs on, and gets no new revision.",
    )

    RULES: ClassVar = (
        Rule(
            cel="!has(self.allowedNamespaces) || self.allowedNamespaces.from != 'Same'",
            holds=lambda spec: spec.allowed_namespaces is None or spec.allowed_namespaces.from_ != "Same",
            field=".allowedNamespaces.from",
            message="spec.allowedNamespaces.from must be All or Selector: an AcceleratorPool is in no namespace",
        ),
        Rule(
            cel="self.device == 'cpu' || has(self.resourceName)",
            holds=lambda spec: spec.device == "cpu" or spec.resource_name is not None,
            field=".resourceName",
            message="spec.resourceName is needed with device cuda: set it, for example to nvidia.com/gpu",
        ),
        Rule(
            cel="self.device != 'cpu' || !has(self.resourceName)",
            holds=lambda spec: spec.device != "cpu" or spec.resource_name is None,
            field=".resourceName",
            message="spec.resourceName has no meaning with device cpu: leave it out, or set device to cuda",
        ),
        Rule(
            cel="self.device == 'cpu' || self.shapes.all(s, has(s.accelerators) && s.accelerators > 0)",
            holds=lambda spec: spec.device == "cpu" or all(shape.accelerators > 0 for shape in spec.shapes),
            field=".shapes",
            message="spec.shapes of a pool with device cuda must each have accelerators of at least 1",
        ),
        Rule(
            cel="self.device != 'cpu' || self.shapes.all(s, !has(s.accelerators) || s.accelerators == 0)",
            holds=lambda spec: spec.device != "cpu" or all(shape.accelerators == 0 for shape in spec.shapes),
            field=".shapes",
            message="spec.shapes of a pool with device cpu have no accelerators: remove them, or use cuda",
        ),
    )


class NamespaceUse(StatusModel):
    """What one namespace uses of a pool."""

    name: str = Field(description="The namespace.")
    workers: int = Field(description="Workers in use by its services.")
    max_workers: int | None = Field(default=None, description="The most that it may use, where there is a limit.")


class AcceleratorPoolStatus(StatusModel):
    """What the operator sees of the pool."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    conditions: Conditions = Field(default=(), description="Ready.")
    nodes: int | None = Field(default=None, description="Nodes that match the selector now.")
    services: int | None = Field(default=None, description="ModelServices that use the pool.")
    workers: int | None = Field(default=None, description="Workers in use.")
    max_workers: int | None = Field(default=None, description="spec.limits.maxWorkers.")
    usage: str | None = Field(default=None, description="Workers in use of those that may be: 5/8, or 5.")
    namespaces: Annotated[tuple[NamespaceUse, ...], Unique("name")] = Field(
        default=(), description="Workers in use by namespace."
    )


class AcceleratorPool(StatusModel):
    """A pool of nodes, with the sizes of worker that fit them; the chart brings one named cpu."""

    metadata: ObjectMeta
    spec: AcceleratorPoolSpec = Field(description="What the nodes are like and which workers fit them.")
    status: AcceleratorPoolStatus = Field(
        default=AcceleratorPoolStatus(),
        description="What the operator sees of the pool; written by the operator alone.",
    )

    RULES: ClassVar = (name_rule("an AcceleratorPool"),)
