"""KubeRay's and Ray Serve's answers as they look."""

import copy
from typing import Any

import pytest
from tests.unit.reconcile.world import KUBERAY_CRD

from modelyard_operator.api.conditions import Reason
from modelyard_operator.observed.kuberay import kuberay_trouble, parse_ray_cluster
from modelyard_operator.observed.pods import PodFacts
from modelyard_operator.observed.serve import parse_details
from modelyard_operator.observed.view import ClusterView, RayClusterView, ways

RAY_CLUSTER: dict[str, Any] = {
    "metadata": {"name": "shared-1", "uid": "u1"},
    "spec": {"rayVersion": "2.60.0"},
    "status": {
        "state": "ready",
        "head": {"podIP": "10.1.0.5", "podName": "shared-1-head", "serviceIP": "10.1.0.5"},
        "conditions": [
            {"type": "HeadPodReady", "status": "True", "reason": "HeadPodRunningAndReady"},
            {"type": "RayClusterProvisioned", "status": "True", "reason": "AllPodRunningAndReadyFirstTime"},
        ],
        "readyWorkerReplicas": 1,
        "observedGeneration": 2,
    },
}
CONFIG = {"name": "team-a.smollm2.0a1b2c3d", "import_path": "modelyard_serving.app:application"}
DETAILS: dict[str, Any] = {
    "controller_info": {"node_id": "n0", "node_ip": "10.1.0.5", "actor_name": "SERVE_CONTROLLER_ACTOR"},
    "proxy_location": "EveryNode",
    "http_options": {"host": "0.0.0.0", "port": 8000},
    "target_capacity": None,
    "proxies": {"n0": {"status": "HEALTHY", "node_ip": "10.1.0.5"}},
    "deploy_mode": "MULTI_APP",
    "applications": {
        "team-a.smollm2.0a1b2c3d": {
            "name": "team-a.smollm2.0a1b2c3d",
            "route_prefix": "/_r/team-a/smollm2/0a1b2c3d",
            "docs_path": None,
            "status": "DEPLOYING",
            "message": "",
            "last_deployed_time_s": 1764000000.0,
            "deployed_app_config": CONFIG,
            "source": "declarative",
            "deployments": {
                "model": {
                    "name": "model",
                    "status": "UPDATING",
                    "status_trigger": "CONFIG_UPDATE_STARTED",
                    "message": "",
                    "target_num_replicas": 3,
                    "replicas": [
                        {"node_id": "n1", "node_ip": "10.1.0.7", "replica_id": "a", "state": "RUNNING"},
                        {"node_id": None, "node_ip": None, "replica_id": "b", "state": "STARTING"},
                        {"node_id": "n2", "node_ip": "10.1.0.8", "replica_id": "c", "state": "STOPPING"},
                    ],
                }
            },
        }
    },
}


def details(**application: Any) -> dict[str, Any]:
    changed = copy.deepcopy(DETAILS)
    changed["applications"]["team-a.smollm2.0a1b2c3d"] |= application
    return changed


def test_replicas_are_counted_by_state() -> None:
    (facts,) = parse_details(DETAILS).values()
    assert (facts.status, facts.target, facts.running) == ("DEPLOYING", 3, 1)
    assert facts.nodes == {"10.1.0.7"}
    assert facts.config == CONFIG


def test_what_is_going_away_has_no_config() -> None:
    (facts,) = parse_details(details(status="DELETING")).values()
    assert facts.config is None


def test_an_application_that_never_got_to_its_deployment_keeps_its_message() -> None:
    (facts,) = parse_details(details(status="DEPLOY_FAILED", message="ImportError: x", deployments={})).values()
    assert (facts.target, facts.running, facts.message) == (0, 0, "ImportError: x")


def test_a_serve_that_runs_nothing_has_no_applications() -> None:
    assert parse_details({"applications": {}}) == parse_details({}) == {}


def test_a_ray_cluster_that_is_up() -> None:
    facts = parse_ray_cluster(RAY_CLUSTER)
    assert (facts.head_ready, facts.was_ready, facts.seen_by_kuberay) == (True, True, True)
    assert (facts.head_address, facts.ray_version) == ("10.1.0.5", "2.60.0")


def test_a_ray_cluster_whose_head_is_gone_was_ready() -> None:
    gone = copy.deepcopy(RAY_CLUSTER)
    gone["status"]["conditions"][0]["status"] = "False"
    facts = parse_ray_cluster(gone)
    assert (facts.head_ready, facts.was_ready) == (False, True)


def test_a_ray_cluster_that_nobody_took_up() -> None:
    facts = parse_ray_cluster({"metadata": {"name": "x", "deletionTimestamp": "now"}, "spec": {}})
    assert (facts.seen_by_kuberay, facts.head_ready, facts.head_address) == (False, False, "")


def _without(*path: str) -> dict[str, Any]:
    crd = copy.deepcopy(KUBERAY_CRD)
    fields = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]  # type: ignore[index]
    for part in path[:-1]:
        fields = fields[part]
    del fields[path[-1]]
    return crd


@pytest.mark.parametrize(
    ("crd", "reason"),
    [
        (None, Reason.KUBERAY_ABSENT),
        (KUBERAY_CRD, None),
        (_without("authOptions"), Reason.KUBERAY_UNSUPPORTED),
        (_without("workerGroupSpecs", "items", "properties", "idleTimeoutSeconds"), Reason.KUBERAY_UNSUPPORTED),
        ({"spec": {"versions": [{"name": "v1alpha1", "served": True}]}}, Reason.KUBERAY_UNSUPPORTED),
    ],
    ids=["absent", "1.6", "before 1.5", "1.5", "only an old version"],
)
def test_kuberay_is_judged_by_its_crd(crd: dict[str, Any] | None, reason: Reason | None) -> None:
    trouble = kuberay_trouble(crd)
    assert (trouble.reason if trouble else None) is reason
    if trouble is not None:
        assert "KubeRay 1.6 or later" in trouble.message


def test_absence_is_seen_and_not_assumed() -> None:
    up = RayClusterView(parse_ray_cluster(RAY_CLUSTER), (), parse_details(DETAILS))
    unreachable = RayClusterView(parse_ray_cluster(RAY_CLUSTER), (), None)
    name = "team-a.smollm2.0a1b2c3d"
    assert not ClusterView("shared-1", {"shared-1": up}).is_gone("shared-1", name)
    assert ClusterView("shared-1", {"shared-1": up}).is_gone("shared-1", "team-a.smollm2.99999999")
    assert not ClusterView("shared-1", {"shared-1": unreachable}).is_gone("shared-1", name)
    assert ClusterView("shared-1", {}).is_gone("shared-1", name), "nothing runs on a RayCluster that is not there"


def test_a_replica_that_is_to_move_serves_until_it_has_moved() -> None:
    details = copy.deepcopy(DETAILS)
    replicas = details["applications"][CONFIG["name"]]["deployments"]["model"]["replicas"]
    replicas[0]["state"] = "PENDING_MIGRATION"
    found = parse_details(details)[CONFIG["name"]]
    assert found.running == 1
    assert found.nodes == {"10.1.0.7"}


def worker(name: str, *, ready: bool = True) -> PodFacts:
    return PodFacts(name=name, group="g", is_head=False, ready=ready, address=f"10.1.0.{name}")


HEAD = PodFacts(name="head", group="headgroup", is_head=True, ready=True, address="10.1.0.1")


@pytest.mark.parametrize(
    ("pods", "leaving", "listening", "expected"),
    [
        ((HEAD, worker("2"), worker("3")), (), {"10.1.0.2"}, ["head", "2"]),
        ((HEAD, worker("2")), (worker("3"),), {"10.1.0.2", "10.1.0.3"}, ["head", "2"]),
        ((HEAD, worker("2")), (worker("3"),), {"10.1.0.3"}, ["head", "3"]),
        ((HEAD,), (worker("3"), worker("4")), {"10.1.0.3"}, ["head", "3"]),
        ((), (worker("3"),), None, ["3"]),
        ((HEAD, worker("2", ready=False)), (worker("3"),), None, ["head", "3"]),
        ((HEAD,), (worker("3"),), set(), ["head"]),
    ],
    ids=["who listens", "one stays", "the other does not listen yet", "only leaving ones", "not known", "not ready",
         "moved"],
)  # fmt: skip
def test_gateways_are_led_to_a_worker_that_leaves_while_no_other_serves(
    pods: tuple[PodFacts, ...], leaving: tuple[PodFacts, ...], listening: set[str] | None, expected: list[str]
) -> None:
    known = frozenset(listening) if listening is not None else None
    assert [pod.name for pod in ways(pods, leaving, known)] == expected
