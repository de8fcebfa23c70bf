"""ServingCluster: Ray capacity that many ModelServices share."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from modelyard_operator.api.base import DNS_LABEL, ApiModel, ObjectMeta, StatusModel, name_rule
from modelyard_operator.api.conditions import Conditions
from modelyard_operator.api.namespaces import AllowedNamespaces
from modelyard_operator.api.quantity import Cpu, Memory
from modelyard_operator.api.rule import Rule, Unique, matching

ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
DataKey = Annotated[str, StringConstraints(pattern=r"^[-._A-Za-z0-9]+$", max_length=253)]
RayVersion = Annotated[
    str,
    StringConstraints(max_length=16),
    matching(
        r"2\.(6[0-9]|[7-9][0-9]|[1-9][0-9]{2})\.[0-9]{1,3}",
        "must be a version of Ray 2 from 2.60.0 on, for example 2.60.0",
    ),
]
EnvName = Annotated[
    str,
    StringConstraints(max_length=128),
    matching(r"[A-Za-z_][A-Za-z0-9_]*", "must be letters, digits and underscores, and not begin with a digit"),
    Rule(
        cel="!self.startsWith('RAY_')",
        holds=lambda name: not name.startswith("RAY_"),
        message="names that begin with RAY_ belong to the operator: remove the variable",
    ),
]
ProxyUrl = Annotated[
    str,
    StringConstraints(max_length=1024),
    matching(
        r"https?://[^@/?#\s]+/?",
        "must be http://<host>:<port>, without user and password: a proxy that needs them goes into "
        "spec.runtime.env as HTTP_PROXY and HTTPS_PROXY with secretKeyRef",
    ),
]
RedisAddress = Annotated[
    str,
    StringConstraints(max_length=259),
    matching(
        r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?:[1-9][0-9]{0,4}",
        "must be <host>:<port>, for example redis.databases.svc:6379",
    ),
]


class SecretKey(ApiModel):
    """A key of a Secret in the ServingCluster's namespace."""

    name: ObjectName = Field(description="The Secret's name.")
    key: DataKey = Field(description="The key in the Secret.")


class EnvVar(ApiModel):
    """A variable of the Ray containers; exactly one of value and secretKeyRef."""

    name: EnvName = Field(description="The variable's name; names that begin with RAY_ belong to the operator.")
    value: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="A plain value; use secretKeyRef for anything secret."
    )
    secret_key_ref: SecretKey | None = Field(default=None, description="Take the value from a Secret.")

    RULES: ClassVar = (
        Rule(
            cel="has(self.value) != has(self.secretKeyRef)",
            holds=lambda env: (env.value is None) != (env.secret_key_ref is None),
            message="a variable of spec.runtime.env needs exactly one of value and secretKeyRef",
        ),
    )


class ConfigMapKey(ApiModel):
    """A key of a ConfigMap in the ServingCluster's namespace."""

    name: ObjectName = Field(description="The ConfigMap's name.")
    key: DataKey = Field(default="ca.crt", description="The key that holds the bundle in PEM.")


class Proxy(ApiModel):
    """The way out of the cluster for downloads."""

    http_proxy: ProxyUrl | None = Field(default=None, description="Value of HTTP_PROXY.")
    https_proxy: ProxyUrl | None = Field(default=None, description="Value of HTTPS_PROXY.")
    no_proxy: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="Value of NO_PROXY; the cluster's own addresses are added."
    )

    RULES: ClassVar = (
        Rule(
            cel="has(self.httpProxy) || has(self.httpsProxy)",
            holds=lambda proxy: proxy.http_proxy is not None or proxy.https_proxy is not None,
            message="spec.runtime.proxy needs httpProxy or httpsProxy: set one, or leave proxy out",
        ),
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
    ray_version: RayVersion | None = Field(
        default=None,
        description="The Ray version in the image; at least 2.60.0. Left out: that of the operator's image.",
    )
    image_pull_secrets: Annotated[tuple[ObjectName, ...], Unique()] = Field(
        default=(), max_length=8, description="Secrets with credentials for the image's registry."
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="ServiceAccount of the worker pods; its token is not mounted."
    )
    env: Annotated[tuple[EnvVar, ...], Unique("name")] = Field(
        default=(), max_length=64, description="Variables of the Ray containers."
    )
    ca_bundle: ConfigMapKey | None = Field(default=None, description="Certificate authorities to trust.")
    proxy: Proxy | None = Field(default=None, description="HTTP proxies for what the Ray pods fetch.")
    volumes: Annotated[tuple[ModelVolume, ...], Unique("claim")] = Field(
        default=(), max_length=16, description="Claims with models, mounted read-only at /models/<claim>."
    )
    priority_class_name: ObjectName | None = Field(default=None, description="PriorityClass of the Ray pods.")


class ModelCache(ApiModel):
    """Where workers keep the models that they download; what was not used for longest makes room."""

    size: Memory | None = Field(
        default=None,
        description="Most that it may hold. Left out: 20Gi on the disk of a worker's node, all of a claim's volume.",
    )
    claim: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)] | None = Field(
        default=None,
        description="A claim that all workers mount, to download once for all of them: its volume must be writable "
        "from all their nodes at once (ReadWriteMany). Left out: each worker has a cache of its own, gone with it.",
    )


class Head(ApiModel):
    """The Ray head: it coordinates and runs no model."""

    cpu: Cpu = Field(default="500m", description="CPU that the head requests.")
    memory: Memory = Field(default="4Gi", description="Memory of the head, request and limit.")


class RedisStorage(ApiModel):
    """The volume of the operator's own Redis; it counts when the volume is made."""

    size: Memory = Field(default="1Gi", description="How large it is; a few megabytes are in use.")
    storage_class_name: ObjectName | None = Field(
        default=None, description="Its StorageClass; the cluster's default where left out."
    )


class Redis(ApiModel):
    """Where the Ray head keeps what a new head needs: a Redis that the operator runs, or the platform's own."""

    address: RedisAddress | None = Field(
        default=None, description="<host>:<port> of a Redis of the platform's own; the operator runs one if left out."
    )
    username: Annotated[str, StringConstraints(pattern=r"^[-._@A-Za-z0-9]+$", max_length=128)] | None = Field(
        default=None, description="The user at spec.redis.address; the default user where left out."
    )
    password_secret: SecretKey | None = Field(default=None, description="Where the password for spec.redis.address is.")
    storage: RedisStorage | None = Field(default=None, description="The volume of the operator's own Redis.")

    RULES: ClassVar = (
        Rule(
            cel="!has(self.address) || !has(self.storage)",
            holds=lambda redis: redis.address is None or redis.storage is None,
            field=".storage",
            message="spec.redis.storage is for the Redis that the operator runs: remove it, or remove "
            "spec.redis.address",
        ),
        Rule(
            cel="has(self.address) || !(has(self.username) || has(self.passwordSecret))",
            holds=lambda redis: redis.address is not None or not (redis.username or redis.password_secret),
            field=".address",
            message="spec.redis.address is needed with username and passwordSecret: set it, or remove them; the "
            "operator's own Redis has a password of its own",
        ),
    )


class ServingClusterSpec(ApiModel):
    """The capacity and how its pods run."""

    runtime: Runtime = Field(default=Runtime(), description="What the Ray pods run with.")
    model_cache: ModelCache = Field(
        default=ModelCache(),
        description="Where models from other sources than claims are kept; only workers of such models have it. A "
        "change counts for the next revision of each service.",
    )
    head: Head = Field(default=Head(), description="The size of the Ray head.")
    queue_name: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)] | None = Field(
        default=None,
        description="LocalQueue of Kueue in the ServingCluster's namespace in which each worker pod waits for quota; "
        "none where left out. A change makes another RayCluster, which services move to.",
    )
    token_generation: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        strict=True,
        description="Raise it for a new token of Ray's dashboard: another RayCluster is made, with a token of its own, "
        "services move to it, and the old one goes with its token.",
    )
    allowed_namespaces: AllowedNamespaces | None = Field(
        default=None,
        description="Namespaces whose ModelServices may run here. Left out: only the ServingCluster's own, but all "
        "for the platform's default one. What already runs of others runs on, and gets no new revision.",
    )
    high_availability: bool = Field(
        default=True,
        strict=True,
        description="Keep the Ray head's state in Redis, so that models serve on while a head is replaced. False is "
        "for clusters to throw away: when the head dies, all models start anew.",
    )
    redis: Redis = Field(default=Redis(), description="The Redis that keeps the Ray head's state.")

    RULES: ClassVar = (
        Rule(
            cel="!has(self.redis) || !has(self.highAvailability) || self.highAvailability",
            holds=lambda spec: spec.high_availability or "redis" not in spec.model_fields_set,
            field=".redis",
            message="spec.redis has no meaning with highAvailability false: remove it, or set highAvailability to true",
        ),
    )


class ServingClusterStatus(StatusModel):
    """What the operator sees of the cluster."""

    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    conditions: Conditions = Field(default=(), description="Accepted, Available, Progressing, Degraded, Ready.")
    ray_cluster: str | None = Field(default=None, description="The RayCluster that serves now.")
    ray_version: str | None = Field(default=None, description="Its Ray version.")
    services: int | None = Field(default=None, description="ModelServices that are bound to the cluster.")
    workers: int | None = Field(default=None, description="Worker pods that are ready.")


class ServingCluster(StatusModel):
    """Ray capacity that many ModelServices share."""

    metadata: ObjectMeta
    spec: ServingClusterSpec = Field(default=ServingClusterSpec(), description="The capacity and how its pods run.")
    status: ServingClusterStatus = Field(
        default=ServingClusterStatus(),
        description="What the operator sees of the cluster; written by the operator alone.",
    )

    RULES: ClassVar = (name_rule("a ServingCluster", begins_with_letter=True),)
