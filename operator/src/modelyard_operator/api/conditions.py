"""Conditions: what is true of an object, why, and what a person can do about it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelyard_operator.api.base import StatusModel
from modelyard_operator.api.rule import Unique


class ConditionType(StrEnum):
    """The conditions that every kind may carry."""

    ACCEPTED = "Accepted"
    """The spec is valid, its references resolve, and it fits."""
    AVAILABLE = "Available"
    """It serves now."""
    PROGRESSING = "Progressing"
    """It is on its way; the reason says what it waits for."""
    DEGRADED = "Degraded"
    """Something is wrong now."""
    READY = "Ready"
    """The summary, for `kubectl wait`."""


class Reason(StrEnum):
    """Every reason that a condition or an Event may carry; docs/troubleshooting.md explains each."""

    # Accepted
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    POOL_NOT_FOUND = "PoolNotFound"
    NO_SHAPE_FITS = "NoShapeFits"
    EXCEEDS_NAMESPACE_LIMITS = "ExceedsNamespaceLimits"
    SERVING_CLUSTER_NOT_FOUND = "ServingClusterNotFound"
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    # Available and Ready
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"
    STOPPED = "Stopped"
    SUSPENDED = "Suspended"
    REPLACING = "Replacing"
    NOT_SERVING = "NotServing"
    DELETING = "Deleting"
    # Progressing
    COMPLETE = "Complete"
    NO_HEADROOM = "NoHeadroom"
    WAITING_FOR_CLUSTER = "WaitingForCluster"
    WAITING_FOR_WORKER = "WaitingForWorker"
    QUEUED = "Queued"
    PULLING_IMAGE = "PullingImage"
    LOADING_MODEL = "LoadingModel"
    PROVING = "Proving"
    SWITCHING_TRAFFIC = "SwitchingTraffic"
    DRAINING = "Draining"
    SCALING = "Scaling"
    POOL_FULL = "PoolFull"
    FAILED = "Failed"
    # Degraded
    HEALTHY = "Healthy"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_UNREADABLE = "ModelUnreadable"
    MODEL_INVALID = "ModelInvalid"
    MODEL_TOO_LARGE = "ModelTooLarge"
    ACCELERATOR_MISSING = "AcceleratorMissing"
    SOURCE_DENIED = "SourceDenied"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    DOWNLOAD_CORRUPT = "DownloadCorrupt"
    CACHE_FULL = "CacheFull"
    CACHE_NOT_WRITABLE = "CacheNotWritable"
    OUT_OF_MEMORY = "OutOfMemory"
    IMPORT_FAILED = "ImportFailed"
    DEPLOY_FAILED = "DeployFailed"
    PROOF_FAILED = "ProofFailed"
    IMAGE_NOT_FOUND = "ImageNotFound"
    NO_NODE_FITS = "NoNodeFits"
    POD_FAILED = "PodFailed"
    REPLICAS_UNHEALTHY = "ReplicasUnhealthy"
    # ServingCluster
    KUBERAY_ABSENT = "KubeRayAbsent"
    KUBERAY_UNSUPPORTED = "KubeRayUnsupported"
    HEAD_STARTING = "HeadStarting"
    HEAD_GONE = "HeadGone"
    AUTOSCALER_GONE = "AutoscalerGone"
    NO_STORAGE_CLASS = "NoStorageClass"
    REDIS_NOT_READY = "RedisNotReady"
    SERVE_UNREACHABLE = "ServeUnreachable"
    CONFIG_REFUSED = "ConfigRefused"
    # Events only
    DRIFT_UNDONE = "DriftUndone"


MAX_MESSAGE = 1024


class Condition(StatusModel):
    """As metav1.Condition."""

    type: ConditionType = Field(description="What the condition speaks of.")
    status: str = Field(description="True, False or Unknown.", json_schema_extra={"enum": ["True", "False", "Unknown"]})
    reason: str = Field(description="One word for the cause; docs/troubleshooting.md explains each.")
    message: str = Field(default="", description="What is the matter and what to do, for a person.")
    observed_generation: int = Field(default=0, description="The generation of the spec that this speaks of.")
    last_transition_time: datetime | None = Field(default=None, description="When the status last changed.")


Conditions = Annotated[tuple[Condition, ...], Unique("type")]
"""The conditions of an object, one of each type."""
