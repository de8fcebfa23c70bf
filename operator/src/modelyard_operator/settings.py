"""The operator's settings: environment variables `MODELYARD_*`, read once at the start."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting of the operator."""

    model_config = SettingsConfigDict(env_prefix="MODELYARD_", frozen=True, extra="ignore")

    namespace: str = Field(description="The namespace that the operator and the gateways run in.")
    serving_image: str = Field(description="Image of Ray pods where a ServingCluster names none.")
    ray_version: str = Field(default="2.60.0", description="The Ray version in `serving_image`.")
    redis_image: str = Field(description="Image of the Redis that keeps the state of Ray heads.")
    image_pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")
    default_serving_cluster: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="`<namespace>/<name>` of the ServingCluster for services that name none; "
        "without it each must name one.",
    )
    gateway_url: str = Field(description="Address of the gateways' Service, for status.url.")
    gateway_labels: str = Field(
        default="app.kubernetes.io/name=modelyard,app.kubernetes.io/component=gateway",
        description="Label selector of the gateway pods in `namespace`.",
    )
    pod_name: str = Field(default="", description="The operator's pod, as the Lease tells who holds it.")
    pod_uid: str = Field(
        default="", description="Its uid, by which it knows the Lease of the container that ran in it before."
    )
    operator_labels: str = Field(
        default="app.kubernetes.io/name=modelyard,app.kubernetes.io/component=operator",
        description="Labels of the operator's own pod in `namespace`, for NetworkPolicies.",
    )
    network_policies: bool = Field(
        default=True, description="Whether each ServingCluster gets a NetworkPolicy for its Ray pods."
    )
    metrics_port: int = Field(default=9090, ge=0, le=65535)
    probe_port: int = Field(default=8080, ge=0, le=65535)
    stuck_after_s: float = Field(
        default=120.0, gt=0, description="Seconds after which a loop that does not finish fails the probe."
    )
    resync_s: float = Field(default=300.0, gt=0, description="Seconds between looks at an object at rest.")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
