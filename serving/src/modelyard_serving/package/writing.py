"""Writing a package's description."""

from pathlib import Path
from typing import Any

import yaml

from modelyard_serving.package.description import PackageDescription
from modelyard_serving.package.folder import DESCRIPTION_FILE, files_of, measure


def describe(folder: Path, about: dict[str, Any]) -> PackageDescription:
    """The description of `folder` with the files that are in it now.

    `about` has the fields of a `PackageDescription` but `format` and `files`.

    Raises:
        pydantic.ValidationError: `about` is no description of a package.
    """
    files = {name: measure(path).model_dump() for name, path in files_of(folder)}
    return PackageDescription.model_validate({"format": 1, **about, "files": files})


def write_description(folder: Path, described: PackageDescription) -> None:
    """Write it into `folder` as `modelyard.yaml`."""
    plain = described.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    (folder / DESCRIPTION_FILE).write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def write_package(folder: Path, about: dict[str, Any]) -> PackageDescription:
    """Both at once."""
    described = describe(folder, about)
    write_description(folder, described)
    return described
