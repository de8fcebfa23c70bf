"""What the pages tell to write: manifests that the API takes, packages that are read, Python that parses."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from _pytest.mark import ParameterSet

from modelyard_operator.api.base import API_VERSION
from modelyard_operator.api.crd import KINDS
from modelyard_serving.package.description import PackageDescription

REPOSITORY = Path(__file__).parents[3]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
MODELS = {kind.name: kind.model for kind in KINDS}


def _blocks(language: str) -> list[ParameterSet]:
    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.M | re.S), 1):
            found.append(pytest.param(block, id=f"{page.relative_to(REPOSITORY)}-{number}"))
    return found


@pytest.mark.parametrize("block", _blocks("yaml"))
def test_manifests_are_right(block: str) -> None:
    for manifest in yaml.safe_load_all(block):
        if "format" in manifest:
            PackageDescription.model_validate(manifest)
        elif manifest["apiVersion"] == API_VERSION:
            MODELS[manifest["kind"]].model_validate(manifest)


@pytest.mark.parametrize("block", _blocks("python"))
def test_python_parses(block: str) -> None:
    ast.parse(re.sub(r"^ {3}", "", block, flags=re.M) if block.startswith("   ") else block)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("**/*.yaml")), ids=lambda path: path.name)
def test_examples_are_right(path: Path) -> None:
    manifests = list(yaml.safe_load_all(path.read_text()))
    assert [
        MODELS[manifest["kind"]].model_validate(manifest).model_dump()["metadata"]["name"] for manifest in manifests
    ]
