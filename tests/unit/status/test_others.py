"""Conditions in general, the cold-start ledger, and the status of clusters and pools."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.desired.samples import cluster, pool, resolved

from modelyard_operator.api.conditions import MAX_MESSAGE, ConditionType, Reason
from modelyard_operator.desired.revision import new_revision
from modelyard_operator.observed.failures import Failure
from modelyard_operator.observed.kuberay import parse_ray_cluster
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.view import ClusterView, RayClusterView
from modelyard_operator.status.accelerator_pool import pool_status
from modelyard_operator.status.conditions import condition, is_warning, stamped, transitions
from modelyard_operator.status.serving_cluster import ClusterFacts, cluster_status

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RAY = new_revision(resolved(), 1).ray_cluster
HEAD = parse_ray_cluster({"metadata": {"name": RAY}, "spec": {"rayVersion": "2.60.0"}})


def test_a_long_message_is_cut_to_what_the_api_allows() -> None:
    cut = condition(ConditionType.READY, False, Reason.DEPLOY_FAILED, "x" * 5000)
    assert len(cut.message) == MAX_MESSAGE
    assert cut.message.endswith("…")


def test_a_condition_of_unknown_status() -> None:
    assert condition(ConditionType.READY, None, Reason.SERVE_UNREACHABLE).status == "Unknown"


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    waiting = condition(ConditionType.READY, False, Reason.PULLING_IMAGE)
    first = stamped([waiting], [], generation=1, now=NOW)
    later = NOW + timedelta(hours=1)
    again = stamped([condition(ConditionType.READY, False, Reason.LOADING_MODEL)], first, generation=2, now=later)
    assert (again[0].last_transition_time, again[0].observed_generation) == (NOW, 2)
    done = stamped([condition(ConditionType.READY, True, Reason.SERVING)], again, generation=2, now=later)
    assert done[0].last_transition_time == later


def test_a_change_of_reason_is_an_event_and_a_change_of_words_is_none() -> None:
    before = [condition(ConditionType.READY, False, Reason.LOADING_MODEL, "1 of 2")]
    assert transitions(before, [condition(ConditionType.READY, False, Reason.LOADING_MODEL, "2 of 2")]) == ()
    proving = condition(ConditionType.READY, False, Reason.PROVING)
    assert transitions(before, [proving]) == (proving,)


def test_only_what_is_wrong_is_a_warning() -> None:
    assert is_warning(condition(ConditionType.DEGRADED, True, Reason.OUT_OF_MEMORY))
    assert is_warning(condition(ConditionType.ACCEPTED, False, Reason.NO_SHAPE_FITS))
    assert not is_warning(condition(ConditionType.DEGRADED, False, Reason.HEALTHY))
    assert not is_warning(condition(ConditionType.READY, False, Reason.PULLING_IMAGE))


def told(view: ClusterView, *, deleting: bool = False, services: int = 2) -> dict[str, tuple[str, str]]:
    status = cluster_status(
        cluster(), ClusterFacts(view, services=services, deleting=deleting, highly_available=False), NOW
    )
    return {c.type.value: (c.status, c.reason) for c in status.conditions}


def test_a_cluster_that_serves() -> None:
    pods = (PodFacts("h", "headgroup", is_head=True, ready=True), PodFacts("w", "g", is_head=False, ready=True))
    view = ClusterView(RAY, {RAY: RayClusterView(HEAD, pods, {})})
    assert told(view)["Ready"] == ("True", "Serving")
    status = cluster_status(cluster(), ClusterFacts(view, services=2, deleting=False, highly_available=False), NOW)
    assert (status.ray_cluster, status.ray_version, status.services, status.workers) == (RAY, "2.60.0", 2, 1)


def test_a_cluster_whose_head_starts() -> None:
    conditions = told(ClusterView(RAY, {RAY: RayClusterView(HEAD, (), None)}))
    assert (conditions["Ready"], conditions["Progressing"]) == (("False", "HeadStarting"), ("True", "HeadStarting"))
    assert conditions["Degraded"] == ("False", "Healthy")


def test_a_cluster_in_trouble_says_which_and_waits_for_no_other() -> None:
    for reason in (Reason.KUBERAY_ABSENT, Reason.HEAD_GONE, Reason.SERVE_UNREACHABLE):
        conditions = told(ClusterView(RAY, {}, Failure(reason, "Do this.")))
        assert conditions["Ready"] == ("False", reason.value)
        assert conditions["Degraded"] == ("True", reason.value)
        assert conditions["Progressing"][0] == "False"


def test_a_cluster_whose_config_is_refused_serves_on_and_is_degraded() -> None:
    trouble = Failure(Reason.CONFIG_REFUSED, "1 validation error")
    conditions = told(ClusterView(RAY, {RAY: RayClusterView(HEAD, (), {}, trouble)}, trouble))
    assert (conditions["Available"][0], conditions["Degraded"]) == ("True", ("True", "ConfigRefused"))


def test_a_cluster_that_waits_for_its_services_to_go() -> None:
    assert told(ClusterView(RAY, {}), deleting=True)["Ready"] == ("False", "Deleting")


def node(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "n", "labels": labels}}


def test_a_pool_counts_the_nodes_that_its_selector_matches() -> None:
    subject = pool(nodeSelector={"gpu": "l4"})
    status = pool_status(subject, [node(gpu="l4", zone="a"), node(gpu="t4"), node()], services=3, use=None, now=NOW)
    assert (status.nodes, status.services, status.conditions[0].status) == (1, 3, "True")


def test_a_pool_without_nodes_says_which_labels_it_looks_for() -> None:
    (ready,) = pool_status(pool(nodeSelector={"gpu": "l4"}), [node()], services=0, use=None, now=NOW).conditions
    assert (ready.status, ready.reason) == ("False", "NoNodeFits")
    assert "gpu=l4" in ready.message
