"""From models to structural schemas, and the files that are written from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import Field

from modelyard_operator.api.base import ApiModel
from modelyard_operator.api.crd import KINDS, Kind, custom_resource_definition
from modelyard_operator.api.generate import drift, generated, main
from modelyard_operator.api.model_service import Model
from modelyard_operator.api.schema import Schema, resolved, without_defaults
from modelyard_serving.contract import Task

REPOSITORY = Path(__file__).parents[3]
by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


class Part(ApiModel):
    """A part."""

    size: int | None = Field(default=3, ge=1, description="How large.")


class Whole(ApiModel):
    """A whole."""

    first_part: Part | None = Field(default=None, description="The first.")
    parts: tuple[Part, ...] = Field(default=(), max_length=2, description="All of them.")


def test_references_nulls_and_titles_are_gone() -> None:
    part = {
        "description": "A part.",
        "type": "object",
        "properties": {
            "size": {
                "description": "How large.",
                "type": "integer",
                "format": "int64",
                "minimum": 1,
                "default": 3,
            }
        },
    }
    assert resolved(Whole) == {
        "description": "A whole.",
        "type": "object",
        "properties": {
            "firstPart": part | {"description": "The first."},
            "parts": {
                "description": "All of them.", "type": "array", "maxItems": 2, "default": [], "items": part,
            },
        },
    }  # fmt: skip


def test_defaults_move_into_the_description() -> None:
    size = without_defaults(resolved(Part))["properties"]["size"]
    assert size["description"] == "How large. Default: 3."
    assert "default" not in size


def test_a_field_that_kubernetes_has_no_schema_for_is_refused_by_name() -> None:
    class Odd(ApiModel):
        """Odd."""

        either: int | str = 1

    with pytest.raises(ValueError, match=r"Odd\.either: Kubernetes has no word for anyOf"):
        resolved(Odd)


@by_kind
def test_every_field_is_described_and_every_default_is_only_told(kind: Kind) -> None:
    schema = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, field in _fields(schema, kind.name):
        if not path.startswith(f"{kind.name}.metadata"):
            assert field.get("description"), f"{path} has no description for kubectl explain"
        assert "default" not in field, f"{path} would be written into the user's object"


@by_kind
def test_each_crd_is_below_64_kilobytes(kind: Kind) -> None:
    sizes = {path: len(text) for path, text in generated().items() if kind.plural in path}
    assert len(sizes) == 2
    assert max(sizes.values()) < 64_000


def test_the_chart_keeps_its_crds_on_uninstall_and_differs_in_nothing_else() -> None:
    files = generated()
    for path in [path for path in files if path.startswith("crds/")]:
        plain = yaml.safe_load(files[path])
        kept = yaml.safe_load(files[path.replace("crds/", "charts/modelyard-crds/templates/")])
        assert kept["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert kept == plain


def test_generated_files_are_up_to_date() -> None:
    assert drift(REPOSITORY, generated()) == []


def test_drift_is_found_told_and_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").touch()
    root = ["--root", str(tmp_path)]
    assert main(root) == 0
    assert main([*root, "--check"]) == 0
    (tmp_path / "crds" / "modelyard.dev_modelservices.yaml").write_text("edited by hand")
    (tmp_path / "crds" / "modelyard.dev_gone.yaml").write_text("no model any more")
    assert main([*root, "--check"]) == 1
    told = capsys.readouterr().err
    assert "make generate" in told
    assert "crds/modelyard.dev_modelservices.yaml" in told
    assert "crds/modelyard.dev_gone.yaml" in told
    assert "servingclusters" not in told
    assert main(root) == 0
    assert main([*root, "--check"]) == 0


def test_a_folder_that_is_not_the_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--root", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


@by_kind
def test_the_reference_has_a_row_for_every_field(kind: Kind) -> None:
    page = generated()["docs/reference.md"]
    section = page.split(f"## {kind.name}\n")[1].split("\n## ")[0]
    for path, _ in _fields(resolved(kind.model), ""):
        if not path.startswith(".metadata") and not path.endswith("[]"):
            assert f"| `{path.removeprefix('.')}` |" in section


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from _fields(field, f"{path}.{name}")
    if "items" in schema:
        yield from _fields(schema["items"], f"{path}[]")


def test_the_manifest_takes_every_task_of_the_contract() -> None:
    [offered] = [part for part in get_args(Model.model_fields["task"].annotation) if part is not type(None)]
    assert sorted(get_args(offered)) == sorted(Task)
