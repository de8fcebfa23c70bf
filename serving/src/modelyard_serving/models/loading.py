"""What loading a transformers model has in common, whatever its task."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from modelyard_serving.contract import FailureReason, ReplicaConfig
from modelyard_serving.failure import StartFailure
from modelyard_serving.models.folder import ModelFolder

TRUSTED = {"local_files_only": True, "trust_remote_code": False}


def prepare_torch(config: ReplicaConfig) -> None:
    """Threads and messages; raises `StartFailure` where a promised GPU is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise StartFailure(
            FailureReason.ACCELERATOR_MISSING,
            "the pool promises a GPU, but torch sees none; check the driver and the device plugin of the node, "
            "and that the runtime image carries torch with CUDA",
        )
    # Ray tells OpenMP to use one thread where an actor asks for no CPU.
    torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def load_pretrained(folder: ModelFolder, settings: Any, config: ReplicaConfig, auto: Any) -> Any:
    """The model that transformers' class `auto` reads, on its device, in the type that the weights are stored in.

    Raises:
        StartFailure: no GPU where one was promised, weights that do not fit the architecture, or memory that ends on
            the way.
    """
    uri = config.model.uri
    prepare_torch(config)
    with failures_told(uri):
        model, report = auto.from_pretrained(
            folder.path, config=settings, dtype="auto", use_safetensors=True, output_loading_info=True,
            ignore_mismatched_sizes=True, **TRUSTED,  # they are refused below, by their names
        )  # fmt: skip
        model.to(config.device)
    # A pooler is not used: pooling is what the model's files say.
    lost = sorted(key for key in map(str, report["missing_keys"]) if not key.startswith("pooler."))
    lost += sorted(str(key) for key in report["mismatched_keys"])
    if lost:
        raise invalid(uri, f"the weights lack {len(lost)} tensors of the architecture, among them {lost[0]}")
    return model.eval()


@contextmanager
def failures_told(uri: str) -> Iterator[None]:
    """Turn what libraries raise for a bad folder into a `StartFailure`."""
    try:
        yield
    except StartFailure:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise StartFailure(FailureReason.MODEL_TOO_LARGE, f"{uri}: memory ended while loading: {error}") from error
    except Exception as error:
        raise invalid(uri, f"{type(error).__name__}: {error}") from error


def invalid(uri: str, message: str) -> StartFailure:
    """The failure of a folder that is not what it should be."""
    return StartFailure(FailureReason.MODEL_INVALID, f"{uri}: {message}")
