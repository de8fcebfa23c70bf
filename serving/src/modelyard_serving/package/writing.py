"""Writing a package's description."""

from pathlib import Path

import yaml

from modelyard_serving.package.description import PackageDescription
from modelyard_serving.package.folder import DESCRIPTION_FILE, files_of, measure


def write_package(folder: Path, about: dict[str, object]) -> PackageDescription:
    """Describe the files that are in `folder`, and write `about` with them into `modelyard.yaml`.

    `about` has the fields of a `PackageDescription` but `format` and `files`.

    Raises:
        pydantic.ValidationError: `about` is no description of a package.
    """
    files = {name: measure(path).model_dump() for name, path in files_of(folder)}
    described = PackageDescription.model_validate({"format": 1, **about, "files": files})
    plain = described.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    (folder / DESCRIPTION_FILE).write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    return described
