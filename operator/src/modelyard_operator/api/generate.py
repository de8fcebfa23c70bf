"""`python -m modelyard_operator.api.generate`: writes the CRDs, the API reference and the chart's values."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from modelyard_operator.api.base import GROUP
from modelyard_operator.api.chart_files import chart_files
from modelyard_operator.api.crd import KINDS, custom_resource_definition
from modelyard_operator.api.reference import reference

_HEADER = "# Written by `make generate` from the models in operator/src/modelyard_operator/api. Do not edit.\n"
_CHART = "charts/modelyard-crds/templates"


def generated() -> dict[str, str]:
    """The text of every generated file, by its path in the repository."""
    files = {"docs/reference.md": reference()} | chart_files()
    for kind in KINDS:
        name = f"{GROUP}_{kind.plural}.yaml"
        crd = custom_resource_definition(kind)
        files[f"crds/{name}"] = _text(crd)
        # Deleting a CRD deletes every object of its kind: uninstalling the chart must not.
        kept = crd["metadata"] | {"annotations": {"helm.sh/resource-policy": "keep"}}
        files[f"{_CHART}/{name}"] = _text(crd | {"metadata": kept})
    return files


def drift(root: Path, files: Mapping[str, str]) -> list[str]:
    """Paths below `root` that are not what `files` says, with the CRDs that nothing writes any more."""
    changed = [path for path, text in files.items() if _read(root / path) != text]
    found = [str(path.relative_to(root)) for folder in ("crds", _CHART) for path in (root / folder).glob("*.yaml")]
    return sorted([*changed, *(path for path in found if path not in files)])


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with --check only compare; 1 and the list of them where they differ."""
    parser = argparse.ArgumentParser(prog="generate", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: this folder)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")
    options = parser.parse_args(arguments)
    if not (options.root / "pyproject.toml").is_file():
        parser.error(f"--root {options.root} is not the repository: it has no pyproject.toml")
    files = generated()
    changed = drift(options.root, files)
    if options.check:
        if changed:
            sys.stderr.write("Out of date, run `make generate`:\n" + "".join(f"  {path}\n" for path in changed))
        return 1 if changed else 0
    for path, text in files.items():
        target = options.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for path in changed:
        if path not in files:
            (options.root / path).unlink()
    return 0


class _Dumper(yaml.SafeDumper):
    """Without anchors: the same rule may stand at several fields."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(manifest: Mapping[str, Any]) -> str:
    return _HEADER + yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=110)


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
