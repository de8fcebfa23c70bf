"""The values of the chart `modelyard`, as models: its values.yaml, schema and README are written from them."""

from typing import Annotated, Literal

from pydantic import Field, Strict, StringConstraints

from modelyard_operator.api.accelerator_pool import Toleration, WorkerShape
from modelyard_operator.api.base import ApiModel
from modelyard_operator.api.namespaces import AllowedNamespaces, LabelValue
from modelyard_operator.api.quantity import Cpu, Memory
from modelyard_operator.api.serving_cluster import Head, ModelCache, ObjectName, RayVersion, Redis, Runtime

Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
ImageReference = Annotated[str, StringConstraints(max_length=512)]


class Values(ApiModel):
    """A group of values; those of other models within it stand in values.yaml as one value."""


class Images(Values):
    """Where the images come from."""

    registry: ImageReference = Field(
        default="", description="Put before the images' names, for example registry.example.com/modelyard."
    )
    tag: str = Field(default="", max_length=128, description="Tag of the images; the chart's appVersion where empty.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When images are pulled, those of the Ray pods too."
    )
    pull_secrets: tuple[ObjectName, ...] = Field(
        default=(),
        description="Secrets in the release's namespace with credentials for the registry; for the default "
        "ServingCluster too, unless it names others.",
    )


class Amounts(ApiModel):
    """CPU and memory."""

    cpu: Cpu | None = Field(default=None, description="CPU, for example 100m.")
    memory: Memory | None = Field(default=None, description="Memory, for example 256Mi.")


class Compute(Values):
    """What a container asks for and may use."""

    requests: Amounts = Field(description="What the scheduler keeps free for it.")
    limits: Amounts = Field(description="What it may use at most.")


class Placed(Values):
    """Where pods run."""

    resources: Compute = Field(description="CPU and memory of a pod.")
    node_selector: dict[str, LabelValue] = Field(default={}, description="Labels of the nodes that it may run on.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints that it accepts.")
    priority_class_name: str = Field(default="", max_length=253, description="PriorityClass of the pods.")


class Operator(Placed):
    """The operator: one pod."""

    image: ImageReference = Field(default="", description="A whole image reference, instead of registry and tag.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="What it logs.")
    stuck_after_seconds: Whole = Field(
        default=120, ge=60, le=3600, description="Its liveness probe fails when a loop takes longer than this."
    )
    resync_seconds: Whole = Field(
        default=300, ge=10, le=86400, description="How often it looks at an object that nothing happens to."
    )
    resources: Compute = Field(
        default=Compute(requests=Amounts(cpu="100m", memory="256Mi"), limits=Amounts(memory="512Mi")),
        description="CPU and memory of the pod.",
    )


class Gateway(Placed):
    """The gateways: the door to all services, inside the cluster."""

    image: ImageReference = Field(default="", description="A whole image reference, instead of registry and tag.")
    replicas: Whole = Field(default=2, ge=1, le=100, description="Pods; from 2 on one may go at any time.")
    max_connections: Whole = Field(
        default=4096, ge=16, le=500_000, description="Connections of clients that one pod takes, about 40 kB each."
    )
    drain_delay_seconds: Whole = Field(
        default=5, ge=0, le=600, description="How long a pod that goes still takes new connections."
    )
    termination_grace_period_seconds: Whole = Field(
        default=86_520, ge=1, le=90_000,
        description="How long a pod that goes may finish its streams: above the longest spec.requestTimeout in use, "
        "of which 24h is the ceiling. It goes as soon as they have ended.",
    )  # fmt: skip
    resources: Compute = Field(
        default=Compute(requests=Amounts(cpu="100m", memory="128Mi"), limits=Amounts(memory="512Mi")),
        description="CPU and memory of a pod.",
    )


class Serving(Values):
    """What Ray pods run where a ServingCluster names no image."""

    image: ImageReference = Field(default="", description="A whole image reference, instead of registry and tag.")
    ray_version: RayVersion = Field(default="2.60.0", description="The Ray version in that image.")


class RedisValues(Values):
    """The Redis beside each ServingCluster with high availability that names none of its own."""

    image: ImageReference = Field(
        default="",
        description="A whole image reference, instead of registry and tag: of any Redis 6 or newer with redis-server.",
    )


class CpuPool(Values):
    """The AcceleratorPool named cpu, for services that name none."""

    enabled: Flag = Field(default=True, description="Whether the chart brings it.")
    node_selector: dict[str, LabelValue] = Field(default={}, description="Labels of its nodes; all nodes where empty.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints that its workers accept.")
    shapes: tuple[WorkerShape, ...] = Field(
        default=(
            WorkerShape(name="small", cpu="500m", memory="2Gi"),
            WorkerShape(name="medium", cpu="1", memory="4Gi"),
            WorkerShape(name="large", cpu="2", memory="8Gi"),
        ),
        min_length=1, max_length=16, description="The sizes of worker; a service gets the smallest that fits.",
    )  # fmt: skip
    max_workers: Whole = Field(
        default=10, ge=1, le=1000, description="Most workers of one group (shape and image) in one ServingCluster."
    )


class DefaultServingCluster(Values):
    """The ServingCluster named default, in the release's namespace, for services that name none."""

    enabled: Flag = Field(default=True, description="Whether the chart brings it; without it each service names one.")
    runtime: Runtime = Field(default=Runtime(), description="Its spec.runtime, for example volumes: [{claim: models}].")
    model_cache: ModelCache = Field(
        default=ModelCache(), description="Its spec.modelCache, for example size: 100Gi: where downloads are kept."
    )
    head: Head = Field(default=Head(), description="Its spec.head: the size of the Ray head.")
    high_availability: Flag = Field(
        default=True, description="Its spec.highAvailability: models serve on while its head is replaced."
    )
    redis: Redis = Field(default=Redis(), description="Its spec.redis, for example storage: {storageClassName: fast}.")
    allowed_namespaces: AllowedNamespaces = Field(
        default=AllowedNamespaces.model_validate({"from": "All"}),
        description="Its spec.allowedNamespaces: which namespaces may use it; all by default.",
    )


class Monitor(Values):
    """A ServiceMonitor or PodMonitor of the Prometheus operator."""

    enabled: Flag = Field(default=False, description="Whether there is one.")
    labels: dict[str, LabelValue] = Field(default={}, description="Labels by which your Prometheus selects it.")
    interval: str = Field(default="30s", pattern=r"^[0-9]+(s|m)$", description="How often it scrapes.")


class Dashboard(Values):
    """A ConfigMap with a Grafana dashboard of services and operator."""

    enabled: Flag = Field(default=False, description="Whether there is one.")
    labels: dict[str, LabelValue] = Field(
        default={"grafana_dashboard": "1"}, description="Labels by which your Grafana's sidecar finds it."
    )


class Metrics(Values):
    """Prometheus metrics: the platform's on Services labelled modelyard.dev/metrics=true, services' on the Ray pods."""

    service_monitor: Monitor = Field(
        default=Monitor(), description="A ServiceMonitor of the operator and the gateways, for the Prometheus operator."
    )
    pod_monitor: Monitor = Field(
        default=Monitor(), description="A PodMonitor of the Ray pods, which have the numbers of services and of Ray."
    )
    dashboard: Dashboard = Field(default=Dashboard(), description="A Grafana dashboard; it needs both monitors.")


class NetworkPolicies(Values):
    """Who may reach the pods, where the cluster's network enforces NetworkPolicies."""

    enabled: Flag = Field(
        default=True,
        description="Let Ray's own ports be reached by the cluster's own Ray pods alone, its dashboard by the operator "
        "too, its Serve port by the operator and the gateways; the operator and the gateways on their ports alone. "
        "Numbers for Prometheus are open to all.",
    )


class Cleanup(Values):
    """The Job that runs before the release is uninstalled."""

    enabled: Flag = Field(
        default=True,
        description="Delete all ModelServices and ServingClusters of the cluster first. Without it they stay, and wait "
        "for the operator to be installed again.",
    )
    timeout_seconds: Whole = Field(
        default=100, ge=10, le=3600, description="How long it waits for them to go before the uninstall fails."
    )


class ChartValues(Values):
    """The values of the chart."""

    image: Images = Field(default=Images(), description="Where the images come from.")
    operator: Operator = Field(default=Operator(), description="The operator: one pod.")
    gateway: Gateway = Field(default=Gateway(), description="The gateways: the door to all services.")
    serving: Serving = Field(default=Serving(), description="What Ray pods run where a ServingCluster names no image.")
    redis: RedisValues = Field(
        default=RedisValues(), description="The Redis that the operator runs to keep the state of Ray heads."
    )
    cpu_pool: CpuPool = Field(default=CpuPool(), description="The AcceleratorPool named cpu.")
    default_serving_cluster: DefaultServingCluster = Field(
        default=DefaultServingCluster(), description="The ServingCluster named default, in the release's namespace."
    )
    metrics: Metrics = Field(default=Metrics(), description="Prometheus metrics of the operator and the gateways.")
    network_policies: NetworkPolicies = Field(
        default=NetworkPolicies(),
        description="Who may reach the pods, where the cluster's network enforces NetworkPolicies.",
    )
    cleanup: Cleanup = Field(default=Cleanup(), description="What happens before the release is uninstalled.")
