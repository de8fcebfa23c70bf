"""The API server refuses wrong manifests in words that help, and takes right ones as they are."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contract.manifests import RIGHT, Manifest
from tests.contract.wrong_manifests import WRONG, Wrong
from tests.kubectl import Kubectl

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("**/*.yaml"))
DRY_RUN = ("create", "--dry-run=server", "-f", "-")


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.title)
def test_wrong_manifest_is_refused_naming_the_field_and_the_fix(kubectl: Kubectl, wrong: Wrong) -> None:
    answer = kubectl(*DRY_RUN, manifest=wrong.manifest)
    assert answer.code != 0
    assert wrong.field in answer.error
    assert wrong.words in answer.error


@pytest.mark.parametrize("manifest", RIGHT, ids=lambda m: f"{m['kind']} {m['metadata']['name']}")
def test_right_manifest_is_taken_and_nothing_is_written_into_it(kubectl: Kubectl, manifest: Manifest) -> None:
    taken = kubectl.must(*DRY_RUN, "-o", "json", manifest=manifest).json()
    assert taken["spec"] == manifest["spec"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_taken(kubectl: Kubectl, path: Path) -> None:
    ours = [each for each in _documents(path) if each["apiVersion"].startswith("modelyard.dev/")]
    assert ours
    for manifest in ours:
        manifest["metadata"].pop("namespace", None)
        kubectl.must(*DRY_RUN, manifest=manifest)


def test_a_dry_run_leaves_nothing(kubectl: Kubectl) -> None:
    kubectl.must(*DRY_RUN, manifest=RIGHT[0])
    assert kubectl.must("get", "modelyard", "--all-namespaces", "-o", "name").out == ""


def _documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]
