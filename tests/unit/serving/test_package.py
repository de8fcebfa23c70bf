"""Model packages: what modelyard.yaml may say, and that a folder is held to it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.serving.tiny import config_for
from tests.unit.serving.tiny_encoder import write_encoder
from tests.unit.serving.tiny_program import DIGITS, PROGRAM, tensor, write_digits

from modelyard_serving.contract import FailureReason, ModelConfig, Task
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.kinds.catalog import choose_kind
from modelyard_serving.models.folder import open_folder
from modelyard_serving.package.description import PackageDescription
from modelyard_serving.package.folder import InvalidPackage, check_files, read_description
from modelyard_serving.package.writing import write_package
from modelyard_serving.replica import Replica

PACKED = {PROGRAM: {"bytes": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}
WHOLE: dict[str, Any] = {
    "format": 1,
    "task": "tensor",
    "program": PROGRAM,
    "signature": DIGITS,
    "labels": ["zero", "one"],
    "metrics": [{"name": "accuracy", "value": 0.98, "dataset": "digits", "split": "test"}],
    "provenance": {"source": "here", "created": "2026-11-22T19:00:00Z", "made_with": {"torch": "2.15.0"}},
    "licence": "Apache-2.0",
    "files": PACKED,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package whose program is three bytes."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / PROGRAM).write_bytes(b"abc")
    _write(folder, WHOLE)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("programs") / "digits")


class Plain(yaml.SafeDumper):
    """Writes what is there twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write(folder: Path, content: Any) -> None:
    (folder / "modelyard.yaml").write_text(content if isinstance(content, str) else yaml.dump(content, Dumper=Plain))


def _described(folder: Path) -> PackageDescription:
    described = read_description(folder)
    assert described is not None
    return described


def test_a_package_says_what_it_is_and_is_what_it_says(folder: Path) -> None:
    described = _described(folder)
    assert described.task is Task.TENSOR
    assert described.metrics[0].value == 0.98
    check_files(folder, described)
    assert read_description(folder.parent) is None


def test_what_is_written_is_read_back(folder: Path) -> None:
    about = {name: value for name, value in WHOLE.items() if name not in ("format", "files")}
    written = write_package(folder, about)
    assert written == _described(folder)
    assert written.files == _described(folder).files
    check_files(folder, written)


def _signature(**changes: Any) -> dict[str, Any]:
    return {"signature": DIGITS | changes}


WRONG: list[tuple[str, dict[str, Any] | str, str]] = [
    ("not YAML", "a: [", "modelyard.yaml is not YAML: while parsing"),
    ("an alias", "a: &a [1]\nb: *a", r"modelyard.yaml is not YAML: aliases \(\*name\) are not taken"),
    ("a class", "a: !!python/object/apply:os.system [false]", "modelyard.yaml is not YAML: could not determine"),
    ("a list", "[]", "modelyard.yaml: must be an object with fields"),
    ("no format", {"format": None}, "format: Input should be 1"),
    ("a later format", {"format": 2}, "format: Input should be 1"),
    ("unknown field", {"weights": "x"}, "weights: there is no such field"),
    ("unknown task", {"task": "cooking"}, "task: Input should be 'text-generation'"),
    ("no program", {"program": None}, "program: the task tensor runs a torch.export program; name its .pt2 file"),
    ("a pickle", {"program": "model.pt"}, r"program: String should match pattern '\\.pt2\$'"),
    ("outside", {"program": "../model.pt2"}, "program: '../model.pt2' is no file of the folder"),
    ("task without programs", {"task": "embeddings"}, "program: the task embeddings does not run programs"),
    ("no signature", {"signature": None}, "signature: a program needs one"),
    ("signature without program", {"task": "embeddings", "program": None}, "signature: belongs to a program"),
    ("no inputs", _signature(inputs=[]), "signature.inputs: Tuple should have at least 1 item"),
    ("a type", _signature(inputs=[tensor("x", "float8", "batch")]), "signature.inputs.0.dtype: Input should be 'bool'"),
    ("size 0", _signature(inputs=[tensor("x", "int64", 0)]), "signature.inputs.0.shape.0: 0 is no dimension: a size"),
    ("true", _signature(inputs=[tensor("x", "int64", True)]), "signature.inputs.0.shape.0: True is no dimension"),
    ("a name", _signature(inputs=[tensor("a b", "int64", 1)]), "signature.inputs.0.name: 'a b' is no name"),
    ("twice", _signature(outputs=DIGITS["outputs"] * 2), "signature: outputs: logits is there twice"),
    ("no batch", _signature(batch="rows"), "signature: batch: rows is not the first dimension of image"),
    (
        "batch elsewhere", _signature(inputs=[tensor("image", "float32", "batch", "batch")]),
        "signature: batch: batch is another dimension of inputs too",
    ),
    ("preprocessing", {"preprocessing": {"image": {"mean": [0.5] * 3, "std": [1] * 3}}}, "preprocessing: the task"),
    ("NaN", {"metrics": [{"name": "x", "value": float("nan")}]}, "metrics.0.value: Input should be a finite number"),
    ("a checksum", {"files": {PROGRAM: {"bytes": 3, "sha256": "x"}}}, "sha256: String should match pattern"),
    ("no files", {"files": {}}, "files: model.pt2 is missing"),
    ("a file outside", {"files": PACKED | {"/etc/passwd": PACKED[PROGRAM]}}, "'/etc/passwd' is no file of the folder"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "told"), [pytest.param(wrong, told, id=name) for name, wrong, told in WRONG])
def test_a_wrong_description_is_told_field_by_field(folder: Path, wrong: dict[str, Any] | str, told: str) -> None:
    content = wrong
    if isinstance(wrong, dict):
        content = {name: value for name, value in (WHOLE | wrong).items() if value is not None}
        content |= {"format": None} if wrong.get("format", 1) is None else {}
    _write(folder, content)
    with pytest.raises(InvalidPackage, match=told):
        read_description(folder)


@pytest.mark.parametrize(
    ("preprocessing", "told"),
    [
        ({"mean": [0.5], "std": [1, 1, 1]}, "preprocessing.image: mean: has 1 values; RGB needs one for each channel"),
        ({"channels": "L", "mean": [0.5], "std": [0]}, "preprocessing.image.std.0: Input should be greater than 0"),
        (
            {"resize": {"shortest": 0}, "mean": [0.5], "std": [1]},
            "preprocessing.image.resize.shortest: Input should be",
        ),
        ({"resample": "best", "mean": [0.5], "std": [1]}, "preprocessing.image.resample: Input should be 'nearest'"),
    ],
)
def test_wrong_preprocessing_is_told_too(folder: Path, preprocessing: dict[str, Any], told: str) -> None:
    _write(folder, WHOLE | {"preprocessing": {"image": preprocessing}})
    with pytest.raises(InvalidPackage, match=told):
        read_description(folder)


def _change(folder: Path) -> None:
    (folder / PROGRAM).write_bytes(b"abd")


def _cut(folder: Path) -> None:
    (folder / PROGRAM).write_bytes(b"ab")


def _remove(folder: Path) -> None:
    (folder / PROGRAM).unlink()


def _add(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "config.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_change, r"files: model.pt2 is not the file that was packaged \(sha256 differs\)"),
        (_cut, "files: model.pt2 has 2 bytes, modelyard.yaml says 3"),
        (_remove, "files: model.pt2 is of modelyard.yaml not in the folder|files: model.pt2"),
        (_add, "files: more/config.json is in the folder but not in modelyard.yaml"),
    ],
)
def test_a_file_that_is_another_is_found(folder: Path, spoil: Any, told: str) -> None:
    spoil(folder)
    with pytest.raises(InvalidPackage, match=told):
        check_files(folder, _described(folder))


def test_hidden_files_are_nobody_s_business(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / ".cache" / "mark").write_text("x")
    check_files(folder, _described(folder))


async def _failure(folder: Path, **changes: Any) -> StartFailure:
    with pytest.raises(StartFailure) as failed:
        await Replica(Journal.open()).configure(config_for(folder, **changes))
    return failed.value


async def test_a_replica_does_not_start_with_another_file(digits: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(digits, tmp_path / "digits")
    content = (folder / PROGRAM).read_bytes()
    (folder / PROGRAM).write_bytes(content[:-1] + b"\x01")
    failure = await _failure(folder)
    assert failure.reason is FailureReason.MODEL_INVALID
    assert "files: model.pt2 is not the file that was packaged" in failure.message


async def test_a_folder_of_transformers_is_held_to_its_package_too(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    write_package(folder, {"task": "embeddings", "licence": "MIT"})
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    failure = await _failure(folder)
    assert "files: config.json has" in failure.message


def test_the_package_says_the_task(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    write_package(folder, {"task": "rerank"})
    files = open_folder(ModelConfig(uri="pvc://models/x", path=str(folder)))
    assert choose_kind(ModelConfig(uri="x"), files).task is Task.RERANK
    with pytest.raises(StartFailure, match=r"modelyard.yaml is for the task rerank; leave spec.model.task"):
        choose_kind(ModelConfig(uri="x", task=Task.EMBEDDINGS), files)


async def test_a_program_without_description_is_told_how_to_get_one(digits: Path, tmp_path: Path) -> None:
    shutil.copy(digits / PROGRAM, tmp_path / PROGRAM)
    task = {"model": ModelConfig(uri="pvc://models/tiny", path=str(tmp_path), task=Task.TENSOR)}
    with pytest.raises(StartFailure, match=r"no exported program with a modelyard\.yaml"):
        await Replica(Journal.open()).configure(config_for(tmp_path).model_copy(update=task))


async def test_a_program_that_does_not_fit_says_what_it_needs(digits: Path) -> None:
    failure = await _failure(digits, memory_bytes=2**20)
    assert failure.reason is FailureReason.MODEL_TOO_LARGE
    assert "set spec.resources.memory to at least 901Mi" in failure.message


IMAGE = tensor("image", "float32", "batch", 1, 28, 28)
LOGITS, MEAN = DIGITS["outputs"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"inputs": [tensor("picture", "float32", "batch", 1, 28, 28)]}, "signature.inputs has picture; the"),
        ({"inputs": [tensor("image", "float64", "batch", 1, 28, 28)]}, "inputs.image.dtype is float64, in the program"),
        ({"inputs": [tensor("image", "float32", "batch", 784)]}, "inputs.image.shape has 2 sizes, in the program 4"),
        ({"inputs": [tensor("image", "float32", "batch", 1, 28, 32)]}, "inputs.image.shape.3 is 32, in the program"),
        ({"inputs": [tensor("image", "float32", "batch", 1, 28, -1)]}, "inputs.image.shape.3 is -1, in the program"),
        (
            {"inputs": [tensor("image", "float32", 4, 1, 28, 28)], "batch": None},
            "inputs.image.shape.0 is 4, in the program it is dynamic",
        ),
        ({"outputs": [MEAN, LOGITS]}, "signature.outputs has mean, logits; the program's are logits, mean"),
        ({"outputs": [tensor("logits", "float32", "batch", "n"), MEAN]}, "outputs.logits.shape.1 is n, in the program"),
        ({"outputs": [tensor("logits", "float32", "batch", 11), MEAN]}, "outputs.logits.shape.1 is 11, in the program"),
    ],
)  # fmt: skip
async def test_a_program_is_held_to_its_signature(
    digits: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    folder = shutil.copytree(digits, tmp_path / "digits")
    signature = {name: value for name, value in (DIGITS | changes).items() if value is not None}
    write_package(folder, {"task": "tensor", "program": PROGRAM, "signature": signature})
    failure = await _failure(folder)
    assert failure.reason is FailureReason.MODEL_INVALID
    assert told in failure.message
