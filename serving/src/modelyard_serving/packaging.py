"""Making a model package from what a team has: an exported program, or a folder of transformers.

Programs and pickled weights, which are read with weights only, need torch; folders with safetensors do not.
"""

import json
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelyard_serving.contract import ModelConfig, Task
from modelyard_serving.failure import StartFailure
from modelyard_serving.models.folder import ModelFiles, read_weights
from modelyard_serving.package.description import PackageDescription, Signature
from modelyard_serving.package.folder import DESCRIPTION_FILE, complaints
from modelyard_serving.package.writing import describe, write_description

PROGRAM = "model.pt2"
WEIGHTS = "model.safetensors"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
PICKLED_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
OTHERS = {
    ".gguf": "it has quantised weights of another runtime; package the safetensors that it was made from",
    ".onnx": "only programs of torch are run; export the module that it was made from with torch.export",
    ".h5": "it is of Keras; transformers' from_pretrained(..., from_tf=True) of an older release can convert it",
    ".msgpack": "it is of Flax; package the safetensors of the same model",
    ".pkl": "a pickle runs code when it is read; save safetensors, or export the module with torch.export",
}  # fmt: skip
LOOSE = (
    "weights without the code that runs them; export the module with torch.export, or put them as "
    f"{PICKLED} beside the config.json of a model of transformers and package that folder"
)


class PackagingFailure(Exception):
    """No package can be made of it; the text says why and what to do."""


class TorchMissing(Exception):
    """What shall be packaged must be read with torch, which is not installed."""


def make_package(source: Path, target: Path, about: dict[str, Any]) -> PackageDescription:
    """Package `source`, a `.pt2` file or a folder of transformers, into the new folder `target`.

    `target` may be `source` itself, if that is a folder with safetensors: then only its description is written.
    `about` has fields of the description; a program's signature and a folder's task are found where they are not there.

    Raises:
        PackagingFailure: it is none of these, damaged, or not what `about` says; `target` is taken.
        TorchMissing: torch is needed and not there.
    """
    if target.resolve() == source.resolve():
        return _described(source, about)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PackagingFailure(f"{target} is there already; name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        folder = Path(scratch) / "package"
        _collect(source, folder)
        described = _described(folder, about)
        os.rename(folder, target)  # noqa: PTH104 - Path.rename is the same
    return described


def _collect(source: Path, folder: Path) -> None:
    """Put what the package shall have into the new `folder`."""
    if source.is_file():
        if source.suffix != ".pt2":
            raise PackagingFailure(f"{source.name}: {OTHERS.get(source.suffix, LOOSE)}")
        folder.mkdir()
        shutil.copyfile(source, folder / PROGRAM)
        return
    if not source.is_dir():
        raise PackagingFailure(f"there is no {source}")
    if not (source / "config.json").is_file():
        raise PackagingFailure(f"{source} has no config.json: it is neither a folder of transformers nor a .pt2 file")
    whole = any(source.glob("*.safetensors"))
    left_out = shutil.ignore_patterns(".*", DESCRIPTION_FILE, "*.bin.index.json", *PICKLED_PATTERNS, *_other_patterns())
    shutil.copytree(source, folder, ignore=left_out)
    if not whole:
        _convert(source, folder / WEIGHTS)


def _other_patterns() -> list[str]:
    return [f"*{suffix}" for suffix in OTHERS]


def _convert(source: Path, to: Path) -> None:
    """Pickled weights as safetensors."""
    shards = [source / PICKLED]
    if (source / PICKLED_INDEX).is_file():
        names = set(json.loads((source / PICKLED_INDEX).read_text())["weight_map"].values())
        shards = [source / Path(str(name)).name for name in sorted(names)]
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        others = sorted(path.name for path in source.iterdir() if path.suffix in OTHERS)
        why = f"{others[0]}: {OTHERS[Path(others[0]).suffix]}" if others else f"{', '.join(absent)} is missing"
        raise PackagingFailure(f"{source} has no weights that can be packaged; {why}")
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        raise TorchMissing(f"{shards[0].name} is pickled; torch converts it") from error
    weights: dict[str, torch.Tensor] = {}
    for shard in shards:
        try:
            loaded = torch.load(shard, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # torch raises every kind of error for what it will not unpickle
            first = (str(error).splitlines() or [""])[0]
            raise PackagingFailure(
                f"{shard.name} has more than tensors, or is damaged; it is not read: {first}"
            ) from error
        if not isinstance(loaded, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in loaded.values()):
            raise PackagingFailure(f"{shard.name} is no state dict: it must be a dict with a tensor for each name")
        # Copied: safetensors takes no tensors that share their memory.
        weights |= {str(name): tensor.detach().clone().contiguous() for name, tensor in loaded.items()}
    save_file(weights, to, metadata={"format": "pt"})


def _described(folder: Path, about: dict[str, Any]) -> PackageDescription:
    own = _read_program(folder / PROGRAM) if (folder / PROGRAM).is_file() else None
    files = ModelFiles(str(folder), folder)
    try:
        found = {"task": about.get("task") or _task_of(files), **_made_with()} if own is None else _of_program(own)
        provenance = {**found["provenance"], **(about.get("provenance") or {})}
        described = describe(folder, {**found, **about, "provenance": provenance})
        if own is None:
            read_weights(files)
        elif described.signature is not None:
            _hold(described.signature, own)
    except ValidationError as error:
        raise PackagingFailure(complaints(error)) from error
    except StartFailure as failure:
        raise PackagingFailure(failure.message.removeprefix(f"{folder}: ")) from failure
    write_description(folder, described)
    return described


def _made_with() -> dict[str, Any]:
    return {"provenance": {"made_with": {"modelyard": version("modelyard")}}}


def _task_of(files: ModelFiles) -> Task:
    try:
        from modelyard_serving.kinds.catalog import choose_kind
    except ImportError as error:
        raise PackagingFailure("name the task with --task; finding it out needs the packages of a replica") from error
    return choose_kind(ModelConfig(uri=files.uri), files).task


def _read_program(file: Path) -> Any:
    """The program's `OwnSignature`."""
    try:
        import torch
    except ImportError as error:
        raise TorchMissing(f"{file.name} is a program; torch reads its signature") from error
    from modelyard_serving.models.program_archive import UnsafeProgram, check_archive
    from modelyard_serving.models.program_signature import UnservableProgram, read_signature

    try:
        check_archive(file)
        return read_signature(torch.export.load(file))
    except UnsafeProgram as error:
        raise PackagingFailure(f"{file.name} is not loaded: {error}") from error
    except UnservableProgram as error:
        raise PackagingFailure(f"{file.name}: {error}") from error
    except Exception as error:  # torch raises every kind of error for a program that is damaged
        raise PackagingFailure(f"{file.name} cannot be loaded: {type(error).__name__}: {error}") from error


def _of_program(own: Any) -> dict[str, Any]:
    """What the program itself tells."""
    try:
        signature = own.declared()
    except ValidationError as error:
        raise PackagingFailure(f"the program's own signature cannot be declared: {complaints(error)}") from error
    declared = signature.model_dump(mode="json", exclude_none=True)
    return {"task": Task.TENSOR, "program": PROGRAM, "signature": declared, **_made_with()}


def _hold(signature: Signature, own: Any) -> None:
    """Hold a signature that was given to the program, as a replica does it."""
    from modelyard_serving.models.program_signature import UnservableProgram, match

    try:
        match(signature, own)
    except UnservableProgram as error:
        raise PackagingFailure(str(error)) from error
