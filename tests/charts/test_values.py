"""Values of the chart: documented, typed, and refused by name where they are wrong."""

from typing import Any

import pytest
import yaml
from tests.charts.chart import CHARTS, FULL, VARIANTS, helm, template
from tests.kubectl import Manifest

from modelyard_operator.api.chart_values import ChartValues

WRONG: tuple[tuple[str, Manifest, str, str], ...] = (
    ("a misspelt group", {"gatway": {}}, "''", "'gatway' not allowed"),
    ("a misspelt value", {"gateway": {"replica": 2}}, "/gateway", "'replica' not allowed"),
    ("replicas in words", {"gateway": {"replicas": "two"}}, "/gateway/replicas", "want integer"),
    ("no gateway", {"gateway": {"replicas": 0}}, "/gateway/replicas", "want 1"),
    ("a group as a value", {"image": "modelyard:1"}, "/image", "want object"),
    ("an unknown policy", {"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy", "'IfNotPresent'"),
    ("an unknown log level", {"operator": {"logLevel": "debug"}}, "/operator/logLevel", "'DEBUG'"),
    ("a resource in words", {"operator": {"resources": {"limits": {"gpu": 1}}}}, "/operator/resources/limits", "'gpu'"),
    ("a flag in words", {"cpuPool": {"enabled": "no"}}, "/cpuPool/enabled", "want boolean"),
    ("a pool without shapes", {"cpuPool": {"shapes": []}}, "/cpuPool/shapes", "minItems"),
    ("a shape without memory", {"cpuPool": {"shapes": [{"name": "a", "cpu": 1}]}}, "/cpuPool/shapes/0", "'memory'"),
    (
        "a misspelt runtime",
        {"defaultServingCluster": {"runtime": {"volume": []}}},
        "/defaultServingCluster/runtime",
        "'volume' not allowed",
    ),
    (
        "a volume without a claim",
        {"defaultServingCluster": {"runtime": {"volumes": [{"name": "models"}]}}},
        "/defaultServingCluster/runtime/volumes/0",
        "'claim'",
    ),
    ("a cleanup without an end", {"cleanup": {"timeoutSeconds": 0}}, "/cleanup/timeoutSeconds", "want 10"),
    (
        "an interval without a unit",
        {"metrics": {"serviceMonitor": {"interval": "30"}}},
        "/metrics/serviceMonitor/interval",
        "does not match pattern",
    ),
)


@pytest.mark.parametrize(("values", "path", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_wrong_value_is_refused_by_name(values: Manifest, path: str, words: str) -> None:
    answer = template(values)
    assert answer.code != 0
    assert path in answer.error
    assert words in answer.error


@pytest.mark.parametrize("chart", ["modelyard", "modelyard-crds"])
def test_lint_has_nothing_to_say(chart: str) -> None:
    answer = helm("lint", "--strict", "--quiet", str(CHARTS / chart))
    assert answer.code == 0, answer.out


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_variants_are_values_of_the_models_too(variant: str) -> None:
    ChartValues.model_validate(_merged(_values_file(), VARIANTS[variant]))


def test_the_values_file_says_the_models_defaults() -> None:
    assert ChartValues.model_validate(_values_file()) == ChartValues()


def test_every_value_is_in_the_readme_with_a_description() -> None:
    readme = (CHARTS / "modelyard" / "README.md").read_text()
    rows = {line.split("`")[1]: line.split("|")[3].strip() for line in readme.splitlines() if line.startswith("| `")}
    assert set(rows) >= {"gateway.replicas", "operator.resources.limits", "defaultServingCluster.runtime"}
    assert all(rows.values())


def test_the_full_variant_changes_every_group() -> None:
    assert set(FULL) == set(_values_file())


def _values_file() -> Manifest:
    values: Manifest = yaml.safe_load((CHARTS / "modelyard" / "values.yaml").read_text())
    return values


def _merged(base: Any, change: Any) -> Any:
    """As Helm merges: maps by key, everything else as a whole."""
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return change
    return base | {key: _merged(base.get(key), value) for key, value in change.items()}
