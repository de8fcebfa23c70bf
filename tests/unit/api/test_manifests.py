"""The models refuse what the API server refuses, with the same words; both are held to one table."""

import copy

import pytest
from pydantic import ValidationError
from tests.contract.manifests import RIGHT, Manifest, service
from tests.contract.wrong_manifests import WRONG, Wrong

from modelyard_operator.api.base import explain
from modelyard_operator.api.crd import KINDS

MODELS = {kind.name: kind.model for kind in KINDS}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.title)
def test_wrong_manifest_is_refused_by_its_model(wrong: Wrong) -> None:
    with pytest.raises(ValidationError) as refusal:
        MODELS[wrong.manifest["kind"]].model_validate(wrong.manifest)
    told = explain(refusal.value)
    # The model knows the key of a map as a step of the path; that of a list as its index.
    assert wrong.field in told
    assert wrong.words in told


@pytest.mark.parametrize("manifest", RIGHT, ids=lambda m: f"{m['kind']} {m['metadata']['name']}")
def test_right_manifest_is_taken_by_its_model(manifest: Manifest) -> None:
    before = copy.deepcopy(manifest)
    MODELS[manifest["kind"]].model_validate(manifest)
    assert manifest == before


def test_the_table_is_long_enough_and_says_each_thing_once() -> None:
    assert len(WRONG) >= 40
    assert len({wrong.title for wrong in WRONG}) == len(WRONG)


def test_every_rule_of_ours_has_a_wrong_manifest() -> None:
    told = []
    for wrong in WRONG:
        with pytest.raises(ValidationError) as refusal:
            MODELS[wrong.manifest["kind"]].model_validate(wrong.manifest)
        told += [error["ctx"]["message"] for error in refusal.value.errors() if error["type"] == "rule"]
    assert _messages() == set(told)


def test_several_mistakes_are_told_at_once() -> None:
    manifest = service(uri="ftp://bucket/model", requestTimeout="forever", replicas=-1)
    with pytest.raises(ValidationError) as refusal:
        MODELS["ModelService"].model_validate(manifest)
    told = explain(refusal.value).split("; ")
    assert [line.partition(":")[0] for line in told] == [
        "spec.model.source.uri", "spec.replicas", "spec.requestTimeout",
    ]  # fmt: skip


def _messages() -> set[str]:
    """The message of every rule in the three schemas."""
    found: set[str] = set()

    def visit(node: object) -> None:
        if isinstance(node, dict):
            found.update(rule["message"] for rule in node.get("x-kubernetes-validations", []))
            for child in node.values():
                visit(child)
        elif isinstance(node, list):
            for child in node:
                visit(child)

    for kind in KINDS:
        visit(kind.model.model_json_schema())
    return found
