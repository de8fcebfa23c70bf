"""A model's folder: is it there, is it whole, what does it do, does it fit."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from modelyard_serving.contract import FailureReason, ModelConfig
from modelyard_serving.failure import StartFailure
from modelyard_serving.models.weights import DamagedWeights, WeightsSummary, summarize
from modelyard_serving.package.description import PackageDescription, Signature
from modelyard_serving.package.folder import InvalidPackage, check_files, read_description

RUNTIME_BYTES = 900 * 2**20
"""What a replica takes beside its weights: Ray's own processes, Python, torch, transformers, some keys and values.

Measured for the replica's process alone: 850 MiB, 500 of them not backed by files."""

CONFIG_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack", "*.pkl")
LISTED = 12


@dataclass(frozen=True)
class ModelFiles:
    """A folder that is there and may be read."""

    uri: str
    path: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says; raises `StartFailure` where it is missing or damaged."""
        return self.read_object("config.json")

    @cached_property
    def package(self) -> PackageDescription | None:
        """What modelyard.yaml says; None where there is none; raises `StartFailure` where it is wrong."""
        try:
            return read_description(self.path)
        except InvalidPackage as error:
            raise self.invalid(str(error)) from error

    @property
    def architectures(self) -> list[str]:
        """The classes of transformers that config.json names."""
        return [str(name) for name in self.config.get("architectures") or []]

    def has(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""
        return (self.path / name).exists()

    def describe(self) -> str:
        """What config.json says of the model, for messages."""
        named = ", ".join(self.architectures)
        return f"config.json names {f'the architecture {named}' if named else 'no architecture'}"

    def read_object(self, name: str) -> dict[str, Any]:
        """The JSON object in a file; raises `StartFailure` where it is missing or damaged."""
        content = self.read_json(name)
        if not isinstance(content, dict):
            raise self.invalid(f"{name} is not an object")
        return content

    def read_json(self, name: str) -> Any:
        """The JSON in a file; raises `StartFailure` where it is missing or damaged."""
        file = self.path / name
        if not file.is_file():
            raise self.invalid(f"no {name} in the folder, which holds {_listing(self.path)}")
        try:
            return json.loads(file.read_text())
        except ValueError as error:
            raise self.invalid(f"{name} is not JSON ({error})") from error

    def check_package(self) -> None:
        """Hold the files to modelyard.yaml, where there is one; raises `StartFailure` where one is another."""
        if self.package is None:
            return
        try:
            check_files(self.path, self.package)
        except InvalidPackage as error:
            raise self.invalid(str(error)) from error

    def invalid(self, message: str) -> StartFailure:
        """The failure of a folder that is not what it should be."""
        return StartFailure(FailureReason.MODEL_INVALID, f"{self.uri}: {message}")


@dataclass(frozen=True)
class ModelFolder:
    """A folder that passed every check that needs no model library."""

    path: Path
    weights: WeightsSummary
    load_bytes: int
    """Memory that the weights take once loaded, in bytes."""


@dataclass(frozen=True)
class CheckedProgram:
    """An exported program whose file is the one that was packaged."""

    uri: str
    file: Path
    package: PackageDescription
    signature: Signature
    load_bytes: int
    """Memory that it takes once loaded, in bytes."""


def open_folder(model: ModelConfig) -> ModelFiles:
    """The model's files, all of which may be read.

    Raises:
        StartFailure: the folder is missing or unreadable.
    """
    path = Path(model.path)
    try:
        if not path.is_dir():
            raise StartFailure(FailureReason.MODEL_NOT_FOUND, f"{model.uri}: {_what_is_there(path)}")
        for file in path.iterdir():
            if file.is_file():
                file.open("rb").close()
    except PermissionError as error:
        raise StartFailure(
            FailureReason.MODEL_UNREADABLE,
            f"{model.uri}: {error.filename} may not be read by user {os.geteuid()}, as which the replica runs; "
            "let others read the folder (chmod -R o+rX)",
        ) from error
    return ModelFiles(model.uri, path)


def check_weights(files: ModelFiles, memory_bytes: int | None) -> ModelFolder:
    """Check config.json and the safetensors files against each other and against the memory there is.

    Raises:
        StartFailure: the folder is incomplete, damaged, of another format, or too large.
    """
    files.check_package()
    weights = read_weights(files)
    item = CONFIG_ITEM_BYTES.get(str(files.config.get("dtype") or files.config.get("torch_dtype")))
    load_bytes = weights.elements * item if item else weights.stored_bytes
    _check_memory(files, load_bytes, memory_bytes)
    return ModelFolder(files.path, weights, load_bytes)


def read_weights(files: ModelFiles) -> WeightsSummary:
    """What the headers of the safetensors files say.

    Raises:
        StartFailure: config.json or weights are missing, damaged or of another format.
    """
    _ = files.config  # a folder without it is told so first
    try:
        return summarize(_weight_files(files))
    except DamagedWeights as damage:
        raise files.invalid(str(damage)) from damage


def check_program(files: ModelFiles, memory_bytes: int | None) -> CheckedProgram:
    """Check a package with an exported program against its description and against the memory there is.

    Raises:
        StartFailure: there is no such package, a file is not the packaged one, or it is too large.
    """
    package = files.package
    if package is None or package.program is None or package.signature is None:
        raise files.invalid("no exported program with a modelyard.yaml; make one with `modelyard package`")
    files.check_package()
    load_bytes = package.files[package.program].bytes
    _check_memory(files, load_bytes, memory_bytes)
    return CheckedProgram(files.uri, files.path / package.program, package, package.signature, load_bytes)


def _check_memory(files: ModelFiles, load_bytes: int, memory_bytes: int | None) -> None:
    if memory_bytes is not None and load_bytes + RUNTIME_BYTES > memory_bytes:
        raise StartFailure(
            FailureReason.MODEL_TOO_LARGE,
            f"{files.uri}: the weights take {_mib(load_bytes)} and the replica itself {_mib(RUNTIME_BYTES)}, but its "
            f"memory is {_mib(memory_bytes)}; set spec.resources.memory to at least {_mib(load_bytes + RUNTIME_BYTES)}",
        )


def _what_is_there(path: Path) -> str:
    """Why `path` is no folder, by the nearest folder above it."""
    if path.exists():
        return f"{path} is a file; a model is a folder with config.json or modelyard.yaml"
    above = path.parent
    while not above.is_dir():
        above = above.parent
    missing = path.relative_to(above).parts[0]
    return f"no folder {missing} in {above}, which holds {_listing(above)}"


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if not names:
        return "nothing"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _weight_files(files: ModelFiles) -> list[Path]:
    path = files.path
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise files.invalid(f"{index.name} is damaged; copy the file again") from error
        absent = [name for name in names if not (path / Path(name).name).is_file()]
        if absent:
            raise files.invalid(f"{index.name} names files that are not there: {', '.join(absent[:LISTED])}")
        return [path / Path(name).name for name in names]
    single = path / "model.safetensors"
    if single.is_file():
        return [single]
    others = sorted(file.name for pattern in UNSAFE_WEIGHTS for file in path.glob(pattern))
    if others:
        raise files.invalid(f"the weights are in {', '.join(others[:LISTED])}; convert them to safetensors, "
                              "the only format that is loaded")  # fmt: skip
    raise files.invalid(f"no model.safetensors in the folder, which holds {_listing(path)}")


def _mib(number: int) -> str:
    return f"{-(-number // 2**20)}Mi"
