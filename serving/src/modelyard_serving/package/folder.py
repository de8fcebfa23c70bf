"""Reading a package and holding it to what its description says."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from modelyard_serving.package.description import PackageDescription, PackedFile

DESCRIPTION_FILE = "modelyard.yaml"
MAX_DESCRIPTION_BYTES = 8 * 2**20
SHOWN = 5


class InvalidPackage(Exception):
    """A package is not what it should be; the text names the file, the field and the fix."""


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, with which a small file can describe a huge document."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken; write the value out")
        return super().compose_node(parent, index)


def read_description(folder: Path) -> PackageDescription | None:
    """What the folder's `modelyard.yaml` says; None where there is none.

    Raises:
        InvalidPackage: it is no description.
    """
    file = folder / DESCRIPTION_FILE
    if not file.is_file():
        return None
    size = file.stat().st_size
    if size > MAX_DESCRIPTION_BYTES:
        raise InvalidPackage(f"{DESCRIPTION_FILE} has {size} bytes, more than {MAX_DESCRIPTION_BYTES}")
    try:
        content = yaml.load(file.read_text(), _PlainLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidPackage(f"{DESCRIPTION_FILE} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return PackageDescription.model_validate(content)
    except ValidationError as error:
        raise InvalidPackage(f"{DESCRIPTION_FILE}: {complaints(error)}") from error


def complaints(error: ValidationError) -> str:
    """What is wrong with a description, field by field."""
    details = error.errors(include_url=False, include_context=False)
    lines = [": ".join(part for part in (_field(detail), _complaint(detail)) if part) for detail in details[:SHOWN]]
    return "; ".join(lines) + (f" (and {len(details) - SHOWN} more)" if len(details) > SHOWN else "")


def check_files(folder: Path, described: PackageDescription) -> None:
    """Read every file of the package and compare it with its description.

    Raises:
        InvalidPackage: a file is missing, changed or not described.
    """
    there = dict(files_of(folder))
    missing = sorted(described.files.keys() - there.keys())
    if missing:
        raise InvalidPackage(f"files: {_some(missing)} of {DESCRIPTION_FILE} not in the folder; copy it again")
    unknown = sorted(there.keys() - described.files.keys())
    if unknown:
        raise InvalidPackage(
            f"files: {_some(unknown)} in the folder but not in {DESCRIPTION_FILE}; take it away or package anew"
        )
    for name, packed in described.files.items():
        size = there[name].stat().st_size
        if size != packed.bytes:
            raise InvalidPackage(
                f"files: {name} has {size} bytes, {DESCRIPTION_FILE} says {packed.bytes}; copy it again"
            )
        if measure(there[name]).sha256 != packed.sha256:
            raise InvalidPackage(f"files: {name} is not the file that was packaged (sha256 differs); copy it again")


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that belong to a package, by their path in it: all but its description and hidden ones."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        name = "/".join(parts)
        if path.is_file() and name != DESCRIPTION_FILE and not any(part.startswith(".") for part in parts):
            yield name, path


def measure(file: Path) -> PackedFile:
    """Size and checksum of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return PackedFile(bytes=file.stat().st_size, sha256=digest)


def _field(detail: Any) -> str:
    return ".".join(str(part) for part in detail["loc"] if part not in ("[key]", "Size", "Shortest"))


def _complaint(detail: Any) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "there is no such field; take it out"
        case "missing":
            return "is missing"
        case "model_type":
            return "must be an object with fields"
    return str(detail["msg"]).removeprefix("Value error, ")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more + (" are" if len(names) > 1 else " is")
