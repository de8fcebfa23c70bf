"""What Ray says of a failed start, and what we make of it."""

import pytest

from modelyard_operator.api.conditions import Reason
from modelyard_operator.observed.failures import classify
from modelyard_serving.contract import FailureReason, failure_text

RAY_PREFIX = (
    "The deployment failed to start 3 times in a row. See the controller logs for details. Error:\n"
    "ray::ServeReplica:team-a.smollm2.0a1b2c3d:model.initialize_and_get_metadata() (pid=411, ip=10.1.0.7)\n"
    '  File "/app/modelyard_serving/models/folder.py", line 61, in read\n    raise StartFailure(reason, message)\n'
)
RAY_OOM = (
    "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\n"
    "Memory on the node (IP: 10.1.0.7) was 1.95GB / 2.00GB (0.97), which exceeds the memory usage threshold."
)


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        pytest.param(
            RAY_PREFIX + "modelyard_serving.failure.StartFailure: "
            + failure_text(FailureReason.MODEL_NOT_FOUND, "There is no folder /models/models/x.") + "\n  trailing",
            Reason.MODEL_NOT_FOUND, "There is no folder /models/models/x.", id="marked by the replica",
        ),
        pytest.param(failure_text(FailureReason.MODEL_INVALID, "model.safetensors is cut short."),
                     Reason.MODEL_INVALID, "model.safetensors is cut short.", id="corrupt weights"),
        pytest.param(failure_text(FailureReason.MODEL_TOO_LARGE, "It needs 9Gi and has 2Gi; out of memory."),
                     Reason.MODEL_TOO_LARGE, "9Gi", id="the replica's own word goes before guesses"),
        pytest.param(failure_text(FailureReason.ACCELERATOR_MISSING, "No GPU."), Reason.ACCELERATOR_MISSING, "No GPU.",
                     id="no accelerator"),
        pytest.param(RAY_OOM, Reason.OUT_OF_MEMORY, "Raise spec.resources.memory", id="Ray's memory monitor"),
        pytest.param("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", Reason.OUT_OF_MEMORY,
                     "Raise spec.resources.memory", id="CUDA"),
        pytest.param("The actor died: the worker was OOM-killed (OOMKilled)", Reason.OUT_OF_MEMORY, "Raise",
                     id="killed by the kernel"),
        pytest.param(RAY_PREFIX + "ModuleNotFoundError: No module named 'modelyard_serving'", Reason.IMPORT_FAILED,
                     "No module named 'modelyard_serving'", id="an image without our code"),
        pytest.param("ImportError: libfoo.so.1: cannot open shared object file", Reason.IMPORT_FAILED, "libfoo.so.1",
                     id="a library that is missing"),
        pytest.param(RAY_PREFIX + "ValueError: something new", Reason.DEPLOY_FAILED, "something new",
                     id="anything else"),
        pytest.param("No words of ours", Reason.DEPLOY_FAILED, "No words of ours", id="no exception at all"),
        pytest.param("RuntimeError: cannot read /models/models/bloom-560m/zoom.json", Reason.DEPLOY_FAILED,
                     "bloom-560m", id="a model whose name has oom in it"),
        pytest.param("", Reason.DEPLOY_FAILED, "could not start", id="silence"),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_words_that_help(text: str, reason: Reason, words: str) -> None:
    failure = classify(text)
    assert failure.reason is reason
    assert words in failure.message
    assert "\n" not in failure.message
    assert len(failure.message) < 600
