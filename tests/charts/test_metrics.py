"""What Prometheus and Grafana are given: what they look for is there."""

import json
import re

from tests.charts.chart import FULL, one, rendered
from tests.unit.desired.samples import PLATFORM, cluster

from modelyard_operator.desired.ray_cluster import ray_cluster
from modelyard_operator.reconcile.metrics import Metrics
from modelyard_serving.contract import StartLedger
from modelyard_serving.engines.protocol import EngineStats
from modelyard_serving.metrics import ReplicaMetrics


def test_the_pod_monitor_selects_ray_pods_by_the_port_with_their_numbers() -> None:
    monitor = one(rendered(FULL), "PodMonitor", "modelyard-ray")["spec"]
    head = ray_cluster(cluster(), PLATFORM)["spec"]["headGroupSpec"]["template"]
    by_kuberay = {("ray.io/is-ray-node", "yes")}
    assert monitor["selector"]["matchLabels"].items() <= head["metadata"]["labels"].items() | by_kuberay
    ports = {port["name"]: port["containerPort"] for port in head["spec"]["containers"][0]["ports"]}
    assert [ports[endpoint["port"]] for endpoint in monitor["podMetricsEndpoints"]] == [8080]


def test_the_dashboard_asks_for_numbers_that_there_are() -> None:
    config_map = one(rendered(FULL), "ConfigMap", "modelyard-dashboard")
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    board = json.loads(config_map["data"]["modelyard.json"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert all(_known_series() & set(re.findall(r"[a-z_]{6,}", expression)) for expression in asked)
    named = {name for expression in asked for name in re.findall(r"\b(?:ray_|modelyard_)[a-z_]+", expression)}
    assert named <= _known_series()


def _known_series() -> set[str]:
    """The series of a replica as Ray shows them, and those of the operator."""
    replica = ReplicaMetrics("team-a/model", "0123abcd")
    replica.request_done("chat.completions", 200, 1.0)
    replica.tokens_done("chat.completions", 1, 2, (0.1, 0.2))
    replica.started(StartLedger(imports_s=1, load_s=1, warmup_s=1))
    replica.engine(EngineStats(0, 0))
    series = {f"ray_{name}" for name in re.findall(r"^([a-z_]+)[{ ]", replica.render().decode(), re.M)}
    operator = Metrics("1")
    families = {family.name: family.type for family in operator.registry.collect()}
    for name, kind in families.items():
        series |= {f"{name}_total"} if kind == "counter" else {name, f"{name}_bucket", f"{name}_count"}
    return series
