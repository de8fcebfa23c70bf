"""What loading a transformers model has in common, whatever its task."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers

from modelyard_serving.contract import FailureReason, ReplicaConfig
from modelyard_serving.failure import StartFailure

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
