"""ServingCluster: Ray capacity that many ModelServices share."""

from typing import Annotated

from pydantic import Field, StringConstraints

from modelyard_operator.api.accelerator_pool import Name, Quantity
from modelyard_operator.api.base import DNS_LABEL, ApiModel, ObjectMeta, StatusModel
from modelyard_operator.api.conditions import Condition

RAY_VERSION_PATTERN = r"^[0-9]+\.[0-9]+\.[0-9]+$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class SecretKey(ApiModel):
    """A key of a Secret in the ServingCluster's namespace."""

    name: ObjectName = Field(description="The Secret's name.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="The key in the Secret.")


class EnvVar(ApiModel):
    """A variable of the Ray containers; exactly one of value and secretKeyRef."""

    name: Annotated[str, StringConstraints(pattern=ENV_NAME, max_length=128)] = Field(
        description="The variable's name; names that begin with RAY_ belong to the operator."
    )
    value: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="A plain value; use secretKeyRef for anything secret."
    )
    secret_key_ref: SecretKey | None = Field(default=None, description="Take the value from a Secret.")


class ConfigMapKey(ApiModel):
    """A key of a ConfigMap in the ServingCluster's namespace."""

    name: ObjectName = Field(description="The ConfigMap's name.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        default="ca.crt", description="The key that holds the bundle in PEM."
    )


class Proxy(ApiModel):
    """The way out of the cluster for downloads."""

    http_proxy: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Value of HTTP_PROXY."
    )
    https_proxy: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Value of HTTPS_PROXY."
    )
    no_proxy: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="Value of NO_PROXY; the cluster's own addresses are added."
    )


class ModelVolume(ApiModel):
    """A PersistentVolumeClaim with models, in the ServingCluster's namespace."""

    claim: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=50)] = Field(
        description="The claim's name. Models on it are named pvc://<claim>/<folder>."
    )


class Runtime(ApiModel):
    """What the Ray pods run with. A change makes new workers for the next revision of each service."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        default=None, description="Image of the Ray pods; the operator's own setting where left out."
    )
    ray_version: Annotated[str, StringConstraints(pattern=RAY_VERSION_PATTERN)] | None = Field(
        default=None, description="The Ray version in the image; at least 2.60.0. Left out: that of the operator's image."
    )
    image_pull_secrets: tuple[ObjectName, ...] = Field(
        default=(), max_length=8, description="Secrets with credentials for the image's registry."
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="ServiceAccount of the worker pods; its token is not mounted."
    )
    env: tuple[EnvVar, ...] = Field(default=(), max_length=64, description="Variables of the Ray containers.")
    ca_bundle: ConfigMapKey | None = Field(default=None, description="Certificate authorities to trust.")
    proxy: Proxy | None = Field(default=None, description="HTTP proxies for what the Ray pods fetch.")
    volumes: tuple[ModelVolume, ...] = Field(
        default=(), max_length=16, description="Claims with models, mounted read-only at /models/<claim>."
    )
    priority_class_name: ObjectName | None = Field(default=None, description="PriorityClass of the Ray pods.")


class Head(ApiModel):
    """The Ray head: it coordinates and runs no model."""

    cpu: Quantity = Field(default="500m", description="CPU that the head requests.")
    memory: Quantity = Field(default="4Gi", description="Memory of the head, request and limit.")


class ServingClusterSpec(ApiModel):
    """The capacity and how its pods run."""

    runtime: Runtime = Field(default=Runtime(), description="What the Ray pods run with.")
    head: Head = Field(default=Head(), description="The size of the Ray head.")


class ServingClusterStatus(StatusModel):
    """What the operator sees of the cluster."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    conditions: tuple[Condition, ...] = Field(default=(), description="Accepted, Available, Progressing, Degraded, Ready.")
    ray_cluster: str | None = Field(default=None, description="The RayCluster that serves now.")
    ray_version: str | None = Field(default=None, description="Its Ray version.")
    services: int | None = Field(default=None, description="ModelServices that are bound to the cluster.")
    workers: int | None = Field(default=None, description="Worker pods that are ready.")


class ServingCluster(StatusModel):
    """Ray capacity that many ModelServices share."""

    metadata: ObjectMeta
    spec: ServingClusterSpec = ServingClusterSpec()
    status: ServingClusterStatus = ServingClusterStatus()


