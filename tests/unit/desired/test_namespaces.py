"""Who may use a ServingCluster and an AcceleratorPool."""

from typing import Any

import pytest
from tests.unit.desired.samples import cluster_manifest, pool_manifest

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.namespaces import asks_labels, refusal
from modelyard_operator.desired.resolution import Rejection


def by(**selector: Any) -> dict[str, Any]:
    return {"from": "Selector", "selector": selector}


def the_cluster(allowed: dict[str, Any] | None) -> ServingCluster:
    manifest = cluster_manifest()
    manifest["spec"].pop("allowedNamespaces")
    manifest["spec"] |= {"allowedNamespaces": allowed} if allowed else {}
    return ServingCluster.model_validate(manifest)


def the_pool(allowed: dict[str, Any] | None = None) -> AcceleratorPool:
    spec: dict[str, Any] = {"allowedNamespaces": allowed} if allowed else {}
    return AcceleratorPool.model_validate(pool_manifest(**spec))


def expressing(operator: str, *values: str) -> dict[str, Any]:
    return by(matchExpressions=[{"key": "env", "operator": operator, "values": list(values)}])


@pytest.mark.parametrize(
    ("allowed", "namespace", "labels", "may"),
    [
        (None, "models", {}, True),
        (None, "team-a", {}, False),
        ({"from": "Same"}, "team-a", {}, False),
        ({"from": "All"}, "team-a", {}, True),
        (by(matchLabels={"team": "a"}), "team-a", {"team": "a", "env": "dev"}, True),
        (by(matchLabels={"team": "a"}), "team-a", {"team": "b"}, False),
        (by(matchLabels={"team": "a"}), "models", {}, False),
        (by(matchLabels={"team": "a", "env": "dev"}), "team-a", {"team": "a"}, False),
        (expressing("In", "dev", "test"), "team-a", {"env": "test"}, True),
        (expressing("In", "dev"), "team-a", {}, False),
        (expressing("NotIn", "prod"), "team-a", {}, True),
        (expressing("NotIn", "prod"), "team-a", {"env": "prod"}, False),
        (expressing("Exists"), "team-a", {"env": ""}, True),
        (expressing("Exists"), "team-a", {}, False),
        (expressing("DoesNotExist"), "team-a", {}, True),
        (expressing("DoesNotExist"), "team-a", {"env": ""}, False),
    ],
    ids=str,
)
def test_who_may_use_a_serving_cluster(
    allowed: dict[str, Any] | None, namespace: str, labels: dict[str, str], *, may: bool
) -> None:
    told = refusal(namespace, labels, the_cluster(allowed), the_pool())
    assert (told is None) is may
    if told is not None:
        assert told.reason is Reason.NAMESPACE_NOT_ALLOWED
        assert "ServingCluster models/shared" in told.message
        assert namespace in told.message
        assert "spec.allowedNamespaces" in told.message


def test_the_platforms_default_cluster_is_for_all_unless_it_says_otherwise() -> None:
    shared = ("models", "shared")
    assert refusal("team-a", {}, the_cluster(None), the_pool(), shared) is None
    assert refusal("team-a", {}, the_cluster({"from": "Same"}), the_pool(), shared) is not None
    assert refusal("team-a", {}, the_cluster(None), the_pool(), ("models", "other")) is not None


def test_a_pool_is_for_all_unless_it_says_otherwise() -> None:
    everybody = the_cluster({"from": "All"})
    assert refusal("team-a", {}, everybody, the_pool()) is None
    told = refusal("team-a", {}, everybody, the_pool(by(matchLabels={"gpu": "yes"})))
    assert isinstance(told, Rejection)
    assert "AcceleratorPool cpu takes ModelServices of namespaces with gpu=yes, not of team-a" in told.message
    assert "label the namespace team-a" in told.message
    assert refusal("team-a", {"gpu": "yes"}, everybody, the_pool(by(matchLabels={"gpu": "yes"}))) is None


def test_labels_are_only_asked_for_where_a_selector_needs_them() -> None:
    assert not asks_labels(the_cluster(None), the_pool())
    assert asks_labels(the_cluster(by(matchLabels={"a": "b"})), the_pool())
    assert asks_labels(the_cluster(None), the_pool(by(matchLabels={"a": "b"})))


def test_expressions_are_told_in_words() -> None:
    told = refusal("team-a", {}, the_cluster(expressing("In", "dev", "test")), the_pool())
    assert told is not None
    assert "env in (dev, test)" in told.message
