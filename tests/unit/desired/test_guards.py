"""What guards Ray pods: budgets for drains, and who may reach them."""

from typing import Any

import pytest
from tests.unit.desired.samples import cluster

from modelyard_operator.desired.disruption_budgets import disruption_budgets
from modelyard_operator.desired.network_policies import Peers, network_policy
from modelyard_operator.desired.ray_pods import DEPARTURE_S, LONGEST_REQUEST_S

LABELS = {
    "modelyard.dev/managed": "true",
    "modelyard.dev/serving-cluster": "shared",
    "modelyard.dev/serving-cluster-namespace": "models",
}
PEERS = Peers("modelyard", operator={"part": "operator"}, gateways={"part": "gateway"})


def ray_cluster(**sizes: int | None) -> dict[str, Any]:
    groups = [{"groupName": name, **({} if size is None else {"replicas": size})} for name, size in sizes.items()]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "shared-1", "namespace": "models", "uid": "u1", "labels": LABELS},
        "spec": {"workerGroupSpecs": groups},
    }


def test_one_worker_of_a_group_may_leave_at_a_time() -> None:
    (budget,) = disruption_budgets(ray_cluster(one=1, none=0, unsized=None, three=3))
    assert budget["metadata"]["name"] == "shared-1-three"
    assert budget["metadata"]["labels"] == LABELS
    assert budget["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert budget["spec"]["minAvailable"] == 2
    assert budget["spec"]["selector"] == {"matchLabels": {"ray.io/cluster": "shared-1", "ray.io/group": "three"}}


def test_a_ray_cluster_without_groups_needs_no_budget() -> None:
    assert disruption_budgets({**ray_cluster(), "spec": {}}) == []


def may_reach(policy: dict[str, Any], port: int, namespace: str, labels: dict[str, str]) -> bool:
    """As the API describes it: a rule without `from` lets all in, one without `ports` all ports."""

    def is_peer(peer: dict[str, Any]) -> bool:
        spaces = peer.get("namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": "models"}})
        wanted = peer["podSelector"]["matchLabels"]
        return bool(
            spaces["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
            and all(labels.get(key) == value for key, value in wanted.items())
        )

    return any(
        ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
        and ("from" not in rule or any(map(is_peer, rule["from"])))
        for rule in policy["spec"]["ingress"]
    )


GCS, CLIENT, DASHBOARD, SERVE, METRICS, REPLICA = 6379, 10001, 8265, 8000, 8080, 30000
EVERY = (GCS, CLIENT, DASHBOARD, SERVE, METRICS, REPLICA)


@pytest.mark.parametrize(
    ("namespace", "labels", "ports"),
    [
        ("models", LABELS, EVERY),
        ("team-b", LABELS, (METRICS,)),
        ("models", {**LABELS, "modelyard.dev/serving-cluster": "other"}, (METRICS,)),
        ("models", {}, (METRICS,)),
        ("modelyard", {"part": "operator"}, (DASHBOARD, SERVE, METRICS)),
        ("modelyard", {"part": "gateway"}, (SERVE, METRICS)),
        ("team-b", {"part": "gateway"}, (METRICS,)),
        ("models", {"part": "operator"}, (METRICS,)),
    ],
    ids=["its own", "the same labels elsewhere", "its neighbour", "a stranger", "operator", "gateway",
         "a stranger like a gateway", "a stranger like the operator"],
)  # fmt: skip
def test_who_may_reach_the_ray_pods(namespace: str, labels: dict[str, str], ports: tuple[int, ...]) -> None:
    policy = network_policy(cluster(), PEERS)
    assert tuple(port for port in EVERY if may_reach(policy, port, namespace, labels)) == ports


def test_the_policy_is_of_this_serving_cluster_alone() -> None:
    policy = network_policy(cluster(), PEERS)
    assert (policy["metadata"]["namespace"], policy["metadata"]["name"]) == ("models", "shared-ray")
    assert policy["spec"]["podSelector"] == {"matchLabels": LABELS}
    assert policy["spec"]["policyTypes"] == ["Ingress"]


def test_a_departure_outlasts_the_longest_request() -> None:
    """Serve stops a replica at the drain's deadline less its graceful shutdown: there must be time to move before."""
    assert DEPARTURE_S - LONGEST_REQUEST_S >= 1800
