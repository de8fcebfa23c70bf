"""The contract between the control plane and the replica.

The operator (or local mode) fills a `ReplicaConfig`, Ray Serve carries it as `user_config`, the replica validates it
and obeys. Of `modelyard_serving` the control plane imports only this module: it imports neither torch nor Ray, and
neither side knows the other's internals. (The command line also reads model packages, by `modelyard_serving.package`.)
"""

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

IMPORT_PATH = "modelyard_serving.app:application"
"""What Ray Serve imports for every model: one generic application."""

DEPLOYMENT = "model"
"""The name of the application's only deployment."""

MODELS_ROOT = "/models"
"""Where a ServingCluster mounts its model claims: the claim `models` appears as `/models/models`."""

CACHE_ROOT = "/model-cache"
"""Where a worker has the cache for models that are downloaded."""

PROVE_PATH = "/-/prove"
METRICS_PATH = "/-/metrics"

DOWNLOAD_BYTES = "modelyard_download_bytes"
DOWNLOAD_DONE_BYTES = "modelyard_download_done_bytes"
"""Gauges among Ray's metrics of a pod, labelled `service` and `revision`: how large a download is, what is there."""

LOG_FILE_ENV = "MODELYARD_LOG_FILE"
"""Names the environment variable with the file that a replica writes its JSON lines to; standard output if unset.

Ray sends the standard output of its workers to files. In a pod the value `/proc/1/fd/1` makes the lines appear in the
container's own log."""

REASON_MARK = "modelyard-reason="
"""A replica that cannot start raises an error whose text carries `modelyard-reason=<FailureReason>: <message>`.

Ray reports only the text of a failure; the mark lets the control plane read its kind without guessing."""


class Task(StrEnum):
    """What a model does; decides which endpoints the replica offers."""

    TEXT_GENERATION = "text-generation"
    EMBEDDINGS = "embeddings"
    TEXT_CLASSIFICATION = "text-classification"
    RERANK = "rerank"
    IMAGE_CLASSIFICATION = "image-classification"
    TENSOR = "tensor"
    AUTOMATIC_SPEECH_RECOGNITION = "automatic-speech-recognition"
    RECOMMEND = "recommend"


class FailureReason(StrEnum):
    """Why a replica could not start, in the words of a condition's reason."""

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


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Contract):
    """Which model the replica loads."""

    uri: str = Field(description="The source as the user wrote it; for messages only.")
    path: str = Field(
        default="",
        description="The folder with the model's files, as the replica sees it; empty where the model is downloaded.",
    )
    task: Task | None = Field(default=None, description="None: the model's own files decide.")


class CacheConfig(_Contract):
    """The folder into which models are downloaded."""

    path: str = Field(description="The folder, as the replica sees it.")
    limit_bytes: int | None = Field(default=None, gt=0, description="Most that it may hold; None: what the disk has.")


class EngineConfig(_Contract):
    """How much work the replica takes on at once."""

    max_running: int = Field(default=32, ge=1, description="Requests that the engine works on at the same time.")
    max_queued: int = Field(default=64, ge=0, description="Requests that wait; one more is answered with 429.")


class ReplicaConfig(_Contract):
    """Everything that a replica needs to know."""

    service: str = Field(description="`<namespace>/<name>`: the model's id in every API.")
    revision: str = Field(description="Eight hexadecimal digits that name the resolved spec.")
    model: ModelConfig
    cache: CacheConfig | None = Field(default=None, description="Set where the model is downloaded.")
    engine: EngineConfig = EngineConfig()
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = Field(default=None, ge=1, description="Threads that torch computes with; None: one per CPU.")
    memory_bytes: int | None = Field(
        default=None, gt=0, description="Memory of the replica's pod in bytes; None: not limited (local mode)."
    )
    request_timeout_s: float = Field(default=3600.0, gt=0, description="Seconds after which a request is ended.")

    def of_model_at(self, path: Path) -> "ReplicaConfig":
        """The same with the model in the folder `path`."""
        return self.model_copy(update={"model": self.model.model_copy(update={"path": str(path)})})

    def as_user_config(self) -> dict[str, Any]:
        """The plain form that Ray Serve carries.

        What is not set is left out, so that an older runtime image need not know of it.
        """
        return self.model_dump(mode="json", exclude_none=True)


class StartLedger(BaseModel):
    """Where a replica's start spent its time."""

    model_config = ConfigDict(frozen=True)  # a reader ignores what a newer replica adds

    download_s: float | None = Field(
        default=None, description="Seconds for having the model in the cache; None where it is not downloaded."
    )
    imports_s: float = Field(description="Seconds for importing torch and transformers.")
    load_s: float = Field(description="Seconds for checking and reading the model's files.")
    warmup_s: float = Field(description="Seconds for the first inferences.")
    engine: str | None = Field(default=None, description="The engine that the model got; None: its task has but one.")
    slower_because: str | None = Field(default=None, description="Why it is not the fastest one.")


class Proof(BaseModel):
    """What `/-/prove` answers after a real inference."""

    model_config = ConfigDict(frozen=True)

    service: str
    revision: str
    seconds: float = Field(description="Seconds that the inference took, waiting for the engine included.")
    tokens: int = Field(description="Tokens that it made, or read where the task makes none.")
    start: StartLedger


def failure_text(reason: FailureReason, message: str) -> str:
    """The text of an error that tells the control plane `reason` and the user `message`."""
    return f"{REASON_MARK}{reason.value}: {message}"


def read_failure(text: str) -> tuple[FailureReason, str] | None:
    """The reason and message that `failure_text` put into `text`, wherever in it; None where there is none."""
    _, mark, rest = text.partition(REASON_MARK)
    name, _, message = rest.partition(": ")
    if not mark or name not in list(FailureReason):
        return None
    return FailureReason(name), message.split("\n", 1)[0].strip()
