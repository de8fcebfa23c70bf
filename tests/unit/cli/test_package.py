"""`modelyard package` and `modelyard inspect`: from what a team has to a folder that a replica loads."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.unit.cli.conftest import Shell
from tests.unit.serving.tiny_encoder import write_encoder
from tests.unit.serving.tiny_program import DIGITS, PROGRAM, tensor, write_digits

from modelyard_serving.package.folder import check_files, read_description


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("programs") / "digits") / PROGRAM


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture
def pickled(encoder: Path, tmp_path: Path) -> Path:
    """The encoder with its weights as torch.save writes them, two of them in one memory."""
    folder = shutil.copytree(encoder, tmp_path / "pickled")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    name = next(iter(weights))
    torch.save(weights | {"tied": weights[name]}, folder / "pytorch_model.bin")
    return folder


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def _package(shell: Shell, source: Path, to: Path, *options: str) -> Any:
    return shell("package", str(source), "--to", str(to), *options)


def _whole(folder: Path) -> Any:
    described = read_description(folder)
    assert described is not None
    check_files(folder, described)
    return described


def test_a_program_gets_its_own_signature(shell: Shell, program: Path, tmp_path: Path) -> None:
    done = _package(shell, program, tmp_path / "to" / "digits", "--licence", "MIT")
    assert done.exit_code == 0, done.stderr
    described = _whole(tmp_path / "to" / "digits")
    assert described.signature.model_dump(mode="json") == DIGITS
    assert (described.task, described.licence) == ("tensor", "MIT")
    assert "modelyard" in described.provenance.made_with
    shown = shell("inspect", str(tmp_path / "to" / "digits"))
    assert shown.exit_code == 0
    for part in (
        "exported program model.pt2", "1 file, 0.0 MiB, all as packaged", "image: float32 [batch, 1, 28, 28]",
        "logits: float32 [batch, 10]", "joined along batch", "MIT",
    ):  # fmt: skip
        assert part in shown.stdout, part
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["digits"]


def test_what_is_known_of_it_comes_from_a_file(shell: Shell, program: Path, tmp_path: Path) -> None:
    about = {
        "signature": DIGITS | {"inputs": [tensor("image", "float32", "rows", 1, 28, 28)], "batch": "rows"}
        | {"outputs": [tensor("logits", "float32", "rows", 10), tensor("mean", "float32", "rows")]},
        "labels": list("0123456789"),
        "metrics": [{"name": "accuracy", "value": 0.5, "dataset": "digits", "split": "test"}],
        "provenance": {"source": "drawn by hand"},
    }  # fmt: skip
    (tmp_path / "about.yaml").write_text(yaml.safe_dump(about))
    done = _package(shell, program, tmp_path / "digits", "--about", str(tmp_path / "about.yaml"))
    assert done.exit_code == 0, done.stderr
    told = json.loads(shell("inspect", str(tmp_path / "digits"), "-o", "json").stdout)
    assert told["signature"]["batch"] == "rows"
    assert told["provenance"]["source"] == "drawn by hand"
    assert "modelyard" in told["provenance"]["made_with"]
    assert told["wrong"] is None
    shown = shell("inspect", str(tmp_path / "digits")).stdout
    assert "10: 0, 1, 2, 3, 4, ..." in shown
    assert "accuracy 0.5 on digits test" in shown


def test_a_folder_of_transformers_needs_no_torch(
    shell: Shell, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shutil.copytree(encoder, tmp_path / "source")
    (source / "training.pt").write_bytes(b"left out")
    monkeypatch.setitem(sys.modules, "torch", None)
    done = _package(shell, source, tmp_path / "to", "--task", "embeddings")
    assert done.exit_code == 0, done.stderr
    described = _whole(tmp_path / "to")
    assert (described.task, described.program) == ("embeddings", None)
    assert sorted(described.files) == sorted(path.name for path in encoder.iterdir())


def test_the_task_is_found_and_a_folder_can_be_described_in_place(shell: Shell, encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "encoder")
    for _ in range(2):
        assert _package(shell, folder, folder).exit_code == 0
        assert _whole(folder).task == "embeddings"


def test_pickled_weights_become_safetensors(shell: Shell, pickled: Path, encoder: Path, tmp_path: Path) -> None:
    done = _package(shell, pickled, tmp_path / "to")
    assert done.exit_code == 0, done.stderr
    assert "pytorch_model.bin" not in _whole(tmp_path / "to").files
    made, known = load_file(tmp_path / "to" / "model.safetensors"), load_file(encoder / "model.safetensors")
    made.pop("tied")
    assert made.keys() == known.keys()
    assert all(torch.equal(made[name], known[name]) for name in known)


def test_pickles_with_more_than_tensors_are_not_run(shell: Shell, pickled: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save({"weight": Evil(mark)}, pickled / "pytorch_model.bin")
    done = _package(shell, pickled, tmp_path / "to")
    assert done.exit_code == 1
    assert "pytorch_model.bin has more than tensors, or is damaged; it is not read" in done.stderr
    assert not mark.exists()
    assert not (tmp_path / "to").exists()


def test_shards_that_are_missing_are_named(shell: Shell, pickled: Path, tmp_path: Path) -> None:
    shutil.move(pickled / "pytorch_model.bin", pickled / "one.bin")
    index = {"weight_map": {"a": "one.bin", "b": "two.bin"}}
    (pickled / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    done = _package(shell, pickled, tmp_path / "to")
    assert "has no weights that can be packaged; two.bin is missing" in done.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.pt", "model.pt: weights without the code that runs them; export the module with torch.export"),
        ("model.gguf", "model.gguf: it has quantised weights of another runtime"),
        ("model.onnx", "model.onnx: only programs of torch are run"),
        ("model.pkl", "model.pkl: a pickle runs code when it is read"),
        ("model.pt2", "model.pt2 is not loaded: it is not an archive of torch.export.save"),
    ],
)
def test_the_rest_is_refused_with_what_to_do(shell: Shell, tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    done = _package(shell, tmp_path / name, tmp_path / "to")
    assert done.exit_code == 1
    assert told in done.stderr
    assert not (tmp_path / "to").exists()


def test_wrong_words_are_told(shell: Shell, program: Path, encoder: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    assert "there is no" in _package(shell, tmp_path / "absent", to).stderr
    assert "has no config.json" in _package(shell, tmp_path, to).stderr
    assert "task: Input should be" in _package(shell, encoder, to, "--task", "cooking").stderr
    assert "the task embeddings does not run programs" in _package(shell, program, to, "--task", "embeddings").stderr
    about = tmp_path / "about.yaml"
    about.write_text("files: {}")
    wrong = _package(shell, program, to, "--about", str(about))
    assert wrong.exit_code == 2
    about.write_text(yaml.safe_dump({"signature": {**DIGITS, "outputs": [tensor("logits", "float32", "batch", 10)]}}))
    assert (
        "signature.outputs has logits; the program's are logits, mean"
        in _package(shell, program, to, "--about", str(about)).stderr
    )
    to.mkdir()
    (to / "file").write_text("x")
    assert "is there already; name a new folder" in _package(shell, program, to).stderr


def test_a_program_without_torch_says_what_to_install(
    shell: Shell, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = _package(shell, program, tmp_path / "to")
    assert done.exit_code == 1
    assert "model.pt2 is a program; torch reads its signature, and it is not installed." in done.stderr
    assert "pip install 'modelyard[serving]'" in done.stderr


def test_inspect_finds_what_is_not_as_packaged(shell: Shell, program: Path, tmp_path: Path) -> None:
    assert "has no modelyard.yaml" in shell("inspect", str(tmp_path)).stderr
    assert "There is no" in shell("inspect", str(tmp_path / "absent")).stderr
    folder = shutil.copytree(program.parent, tmp_path / "digits")
    (folder / PROGRAM).write_bytes(b"another")
    done = shell("inspect", str(folder))
    assert done.exit_code == 1
    assert "files: model.pt2 has 7 bytes, modelyard.yaml says" in done.stderr
    assert "all as packaged" not in done.stdout
    (folder / "modelyard.yaml").write_text("format: 1")
    done = shell("inspect", str(folder))
    assert done.exit_code == 1
    assert "modelyard.yaml: task: is missing" in done.stderr
