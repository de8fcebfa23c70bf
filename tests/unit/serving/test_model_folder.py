"""What a person is told when a model's folder is wrong."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.unit.serving.tiny import config_for

from modelyard_serving.contract import FailureReason, Task
from modelyard_serving.failure import StartFailure
from modelyard_serving.kinds.catalog import KINDS, choose_kind
from modelyard_serving.models.folder import RUNTIME_BYTES, ModelFolder, check_weights, open_folder


@pytest.fixture
def folder(gpt2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(gpt2, tmp_path / "models" / "tiny"))


def _inspect(folder: Path, memory_bytes: int | None = None, task: Task | None = None) -> tuple[Task, ModelFolder]:
    """What a start checks before it imports anything heavy."""
    model = config_for(folder).model.model_copy(update={"task": task})
    files = open_folder(model)
    return choose_kind(model, files).task, check_weights(files, memory_bytes)


def _failure(folder: Path, memory_bytes: int | None = None) -> tuple[FailureReason, str]:
    with pytest.raises(StartFailure) as caught:
        _inspect(folder, memory_bytes)
    return caught.value.reason, caught.value.message


def test_a_good_folder_tells_task_and_size(folder: Path) -> None:
    task, found = _inspect(folder, 2 * 2**30)
    assert task is Task.TEXT_GENERATION
    assert found.load_bytes == found.weights.elements * 4
    assert found.weights.stored_bytes == (folder / "model.safetensors").stat().st_size


def test_a_missing_folder_is_told_with_what_is_there(folder: Path) -> None:
    reason, message = _failure(folder.parent / "tinny")
    assert reason is FailureReason.MODEL_NOT_FOUND
    assert message == f"pvc://models/tiny: no folder tinny in {folder.parent}, which holds tiny"


def test_a_claim_that_is_not_mounted_is_told_by_the_nearest_folder(tmp_path: Path) -> None:
    _, message = _failure(tmp_path / "claim" / "deep" / "model")
    assert f"no folder claim in {tmp_path}, which holds nothing" in message


def test_a_file_is_no_model(folder: Path) -> None:
    reason, message = _failure(folder / "config.json")
    assert reason is FailureReason.MODEL_NOT_FOUND
    assert "is a file" in message


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; another user may not."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", ""])
def test_a_file_that_may_not_be_read_is_named(gpt2: Path, name: str) -> None:
    with TemporaryDirectory() as root:
        folder = Path(root) / "model"
        shutil.copytree(gpt2, folder)
        Path(root).chmod(0o755)
        (folder / name).chmod(0)
        with as_nobody():
            reason, message = _failure(folder)
        folder.chmod(0o755)
    assert reason is FailureReason.MODEL_UNREADABLE
    assert str(folder / name) in message
    assert "chmod -R o+rX" in message


def test_weights_cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    reason, message = _failure(folder)
    assert reason is FailureReason.MODEL_INVALID
    assert "model.safetensors is cut short" in message


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"\x00" * 7, b"\x00" * 64, b"\xff" * 64, (5).to_bytes(8, "little") + b"{nope",
        (2).to_bytes(8, "little") + b"[]", (2).to_bytes(8, "little") + b"{}",
        (14).to_bytes(8, "little") + b'{"a": "strange"}'[:14],
    ],
)  # fmt: skip
def test_a_damaged_header(folder: Path, damage: bytes) -> None:
    (folder / "model.safetensors").write_bytes(damage)
    reason, message = _failure(folder)
    assert reason is FailureReason.MODEL_INVALID
    assert "model.safetensors" in message
    assert "copy the file again" in message


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "shape does not fit"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, "leave gaps"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "too long"),
        ({"dtype": "F32", "shape": [1]}, "unreadable"),
    ],
)
def test_a_header_that_contradicts_its_file(folder: Path, tensor: dict[str, object], words: str) -> None:
    header = json.dumps({"a": tensor}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    assert words in _failure(folder)[1]


def test_shards_that_are_missing_are_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    assert "names files that are not there: model-00002-of-00002.safetensors" in _failure(folder)[1]


def test_a_damaged_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")
    assert "index.json is damaged" in _failure(folder)[1]


def test_other_formats_are_refused_with_the_way_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    reason, message = _failure(folder)
    assert reason is FailureReason.MODEL_INVALID
    assert "the weights are in pytorch_model.bin; convert them to safetensors" in message


def test_no_weights_at_all(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors in the folder, which holds config.json" in _failure(folder)[1]


@pytest.mark.parametrize(
    ("text", "words"), [(None, "no config.json"), ("{", "is not JSON"), ("[]", "is not an object")]
)
def test_a_bad_config(folder: Path, text: str | None, words: str) -> None:
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    reason, message = _failure(folder)
    assert reason is FailureReason.MODEL_INVALID
    assert words in message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["ViTMAEForPreTraining"]}, "names the architecture ViTMAEForPreTraining"),
        ({}, "names no architecture"),
    ],
)
def test_a_folder_that_tells_no_task(folder: Path, config: dict[str, object], words: str) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    reason, message = _failure(folder)
    assert reason is FailureReason.MODEL_INVALID
    assert f"{words}, which tells no task; set spec.model.task to one of: {', '.join(Task)}" in message


@pytest.mark.parametrize(
    ("architecture", "modules", "task"),
    [
        ("BertForSequenceClassification", False, Task.TEXT_CLASSIFICATION),
        ("GPT2LMHeadModel", False, Task.TEXT_GENERATION),
        ("Qwen3ForCausalLM", False, Task.TEXT_GENERATION),
        ("Qwen3ForCausalLM", True, Task.EMBEDDINGS),
        ("BertModel", False, Task.EMBEDDINGS),
        ("BertForMaskedLM", True, Task.EMBEDDINGS),
    ],
)
def test_the_files_tell_the_task(folder: Path, architecture: str, modules: bool, task: Task) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    if modules:
        (folder / "modules.json").write_text("[]")
    assert _inspect(folder)[0] is task


@pytest.mark.parametrize("task", Task)
def test_the_task_that_the_manifest_names_needs_no_telling_files(folder: Path, task: Task) -> None:
    (folder / "config.json").write_text("{}")
    assert _inspect(folder, task=task)[0] is task


def test_there_is_a_kind_for_each_task_of_the_contract() -> None:
    assert sorted(kind.task for kind in KINDS) == sorted(Task)


def test_a_model_too_large_is_told_with_numbers(folder: Path) -> None:
    weights = _inspect(folder)[1].load_bytes
    _inspect(folder, weights + RUNTIME_BYTES)
    reason, message = _failure(folder, weights + RUNTIME_BYTES - 2**20)
    assert reason is FailureReason.MODEL_TOO_LARGE
    assert "set spec.resources.memory to at least 901Mi" in message
