"""Counts that must go down again when what they count is gone."""

from modelyard_operator.kube.client import MODEL_SERVICE, SERVING_CLUSTER
from modelyard_operator.reconcile.metrics import Metrics
from modelyard_operator.reconcile.result import Key

A, B = Key("team", "a"), Key("team", "b")


def services(metrics: Metrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("modelyard_model_services", {"reason": reason})


def test_each_service_counts_once_under_its_present_reason() -> None:
    metrics = Metrics("1")
    metrics.service_ready(A, "Serving")
    metrics.service_ready(A, "Serving")
    metrics.service_ready(B, "Serving")
    metrics.service_ready(B, "OutOfMemory")
    assert (services(metrics, "Serving"), services(metrics, "OutOfMemory")) == (1, 1)


def test_a_service_that_is_gone_counts_no_more_but_a_cluster_of_its_name_is_another_matter() -> None:
    metrics = Metrics("1")
    metrics.service_ready(A, "Serving")
    metrics.object_gone(SERVING_CLUSTER, A)
    assert services(metrics, "Serving") == 1
    metrics.object_gone(MODEL_SERVICE, A)
    metrics.object_gone(MODEL_SERVICE, A)
    assert services(metrics, "Serving") == 0
