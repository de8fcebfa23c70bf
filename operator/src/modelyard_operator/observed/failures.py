"""From the text of a failure to a reason and words that a person can act on."""

import re
from dataclasses import dataclass

from modelyard_operator.api.conditions import Reason
from modelyard_serving.contract import FailureReason, read_failure

_IMPORT = re.compile(r"(?:ModuleNotFoundError|ImportError): ([^\n]+)")
_MEMORY = re.compile(r"OutOfMemory|out of memory|\bOOM|memory pressure|MemoryError|ray_memory_monitor", re.IGNORECASE)
_ERROR_LINE = re.compile(r"^\s*[\w.]*(?:Error|Exception): .+$", re.MULTILINE)
_REASONS = {
    FailureReason.MODEL_NOT_FOUND: Reason.MODEL_NOT_FOUND,
    FailureReason.MODEL_UNREADABLE: Reason.MODEL_UNREADABLE,
    FailureReason.MODEL_INVALID: Reason.MODEL_INVALID,
    FailureReason.MODEL_TOO_LARGE: Reason.MODEL_TOO_LARGE,
    FailureReason.ACCELERATOR_MISSING: Reason.ACCELERATOR_MISSING,
    FailureReason.SOURCE_DENIED: Reason.SOURCE_DENIED,
    FailureReason.SOURCE_UNREACHABLE: Reason.SOURCE_UNREACHABLE,
    FailureReason.DOWNLOAD_CORRUPT: Reason.DOWNLOAD_CORRUPT,
    FailureReason.CACHE_FULL: Reason.CACHE_FULL,
    FailureReason.CACHE_NOT_WRITABLE: Reason.CACHE_NOT_WRITABLE,
}
_OUT_OF_MEMORY = (
    "A replica used more memory than its worker has and was killed. Raise spec.resources.memory, so that a larger "
    "worker shape is chosen."
)


@dataclass(frozen=True)
class Failure:
    """What is wrong."""

    reason: Reason
    message: str


def classify(text: str) -> Failure:
    """The failure that Ray's message `text` tells of.

    Replicas mark what they know (`contract.failure_text`); the rest is read from the exception's own line.
    """
    told = read_failure(text)
    if told is not None:
        return Failure(_REASONS[told[0]], told[1])
    if _MEMORY.search(text):
        return Failure(Reason.OUT_OF_MEMORY, _OUT_OF_MEMORY)
    imported = _IMPORT.search(text)
    if imported is not None:
        return Failure(
            Reason.IMPORT_FAILED,
            f"The runtime image cannot import the replica's code: {imported[1].strip()}. "
            "Name an image with Modelyard's serving code in the ServingCluster's spec.runtime.image.",
        )
    errors = list(_ERROR_LINE.finditer(text))
    detail = " ".join((text[errors[-1].start() :] if errors else text).split())[:400]
    return Failure(Reason.DEPLOY_FAILED, f"Ray Serve could not start it: {detail}")
