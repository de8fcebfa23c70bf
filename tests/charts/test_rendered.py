"""What the chart renders: taken by the real API server, hardened, and wired together."""

import shlex
from pathlib import Path

import pytest
from tests.charts.chart import (
    FULL,
    MINIMAL,
    NAMESPACE,
    VARIANTS,
    environment,
    one,
    pod_templates,
    rendered,
)
from tests.kubectl import Kubectl, Manifest

from modelyard_gateway.routes import SCHEMA, SCHEMA_ANNOTATION
from modelyard_gateway.settings import settings_from
from modelyard_operator.cleanup import main as cleanup
from modelyard_operator.reconcile.routes import schema_of
from modelyard_operator.settings import Settings

by_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(scope="module")
def restricted(kubectl: Kubectl) -> str:
    """A namespace that only takes pods of the Pod Security Standard `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    kubectl.must("apply", "-f", "-", manifest=manifest)
    return NAMESPACE


@by_variant
def test_the_api_server_takes_every_object(kubectl: Kubectl, restricted: str, variant: str) -> None:
    objects = [each for each in rendered(VARIANTS[variant]) if not each["kind"].endswith("Monitor")]
    answer = kubectl("create", "--dry-run=server", "-f", "-", manifest=objects)
    assert answer.code == 0, answer.error
    assert "Warning" not in answer.error


@by_variant
def test_every_pod_is_restricted_and_cannot_write(kubectl: Kubectl, restricted: str, variant: str) -> None:
    templates = pod_templates(rendered(VARIANTS[variant]))
    assert {"modelyard-operator", "modelyard-gateway"} <= set(templates)
    for name, template in templates.items():
        metadata = {"name": name, "namespace": restricted}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        kubectl.must("create", "--dry-run=server", "-f", "-", manifest=pod)
        assert template["spec"]["securityContext"]["runAsUser"] > 0
        assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in template["spec"]["containers"])
        # Else the Service modelyard-gateway would put MODELYARD_GATEWAY_PORT into the environment.
        assert template["spec"]["enableServiceLinks"] is False


@by_variant
def test_the_operator_understands_its_environment(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment(rendered(VARIANTS[variant]), "modelyard-operator")
    known = {f"MODELYARD_{name.upper()}" for name in Settings.model_fields}
    assert set(given) <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.namespace == NAMESPACE
    assert settings.default_serving_cluster == (None if variant == "minimal" else "modelyard/default")
    assert settings.gateway_url == "http://modelyard-gateway.modelyard.svc"


@by_variant
def test_the_gateway_understands_its_environment(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (2_000_000, 2_000_000))
    objects = rendered(VARIANTS[variant])
    settings = settings_from(environment(objects, "modelyard-gateway"), haproxy=Path("haproxy"))
    container = one(objects, "Deployment", "modelyard-gateway")["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.listen_port, "status": settings.status_port}
    assert str(settings.state_dir) in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert settings.namespace == NAMESPACE


def test_the_gateways_settings_follow_the_values() -> None:
    settings = settings_from(
        environment(rendered({"gateway": {"maxConnections": 100, "drainDelaySeconds": 9}}), "modelyard-gateway"),
        haproxy=Path("haproxy"),
    )
    assert (settings.max_connections, settings.drain_delay_s) == (100, 9)


@by_variant
def test_services_monitor_and_operator_select_the_pods_they_mean(variant: str) -> None:
    objects = rendered(VARIANTS[variant])
    labels = {name: template["metadata"]["labels"] for name, template in pod_templates(objects).items()}
    for service in (each for each in objects if each["kind"] == "Service"):
        owner = service["metadata"]["name"].removesuffix("-metrics")
        matching = [name for name in labels if _selects(service["spec"]["selector"], labels[name])]
        assert matching == [owner]
        container = pod_templates(objects)[owner]["spec"]["containers"][0]
        assert service["spec"]["ports"][0]["targetPort"] in [port["name"] for port in container["ports"]]
    asked = environment(objects, "modelyard-operator")["MODELYARD_GATEWAY_LABELS"]
    selector = dict(pair.split("=") for pair in asked.split(","))
    assert [name for name in labels if _selects(selector, labels[name])] == ["modelyard-gateway"]


def test_the_operator_is_told_which_routes_the_gateways_read() -> None:
    (template,) = (each for name, each in pod_templates(rendered({})).items() if name == "modelyard-gateway")
    assert template["metadata"]["annotations"][SCHEMA_ANNOTATION] == str(SCHEMA)
    assert schema_of([template]) == SCHEMA


def test_policies_let_in_by_ports_that_the_pods_have() -> None:
    objects = rendered({})
    templates = pod_templates(objects)
    for component in ("operator", "gateway"):
        name = f"modelyard-{component}"
        policy = one(objects, "NetworkPolicy", name)["spec"]
        selected = [
            n for n, t in templates.items() if _selects(policy["podSelector"]["matchLabels"], t["metadata"]["labels"])
        ]
        assert selected == [name]
        (rule,) = policy["ingress"]
        (container,) = templates[name]["spec"]["containers"]
        assert {each["port"] for each in rule["ports"]} == {port["name"] for port in container["ports"]}
    asked = environment(objects, "modelyard-operator")["MODELYARD_OPERATOR_LABELS"]
    selector = dict(pair.split("=") for pair in asked.split(","))
    assert [n for n, t in templates.items() if _selects(selector, t["metadata"]["labels"])] == ["modelyard-operator"]


def test_without_policies_there_are_none_and_the_operator_makes_none() -> None:
    objects = rendered({"networkPolicies": {"enabled": False}})
    assert "NetworkPolicy" not in {each["kind"] for each in objects}
    assert environment(objects, "modelyard-operator")["MODELYARD_NETWORK_POLICIES"] == "false"


def test_one_operator_at_a_time_and_two_gateways_that_do_not_go_together() -> None:
    objects = rendered({})
    operator = one(objects, "Deployment", "modelyard-operator")["spec"]
    assert (operator["replicas"], operator["strategy"]) == (1, {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    gateway = one(objects, "Deployment", "modelyard-gateway")["spec"]
    assert (gateway["replicas"], gateway["strategy"]["rollingUpdate"]["maxUnavailable"]) == (2, 0)
    assert one(objects, "PodDisruptionBudget", "modelyard-gateway")["spec"]["maxUnavailable"] == 1
    spread = gateway["template"]["spec"]["topologySpreadConstraints"][0]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert gateway["template"]["spec"]["terminationGracePeriodSeconds"] > 86_400


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_probes_ask_a_port_that_the_container_has(component: str) -> None:
    container = pod_templates(rendered({}))[f"modelyard-{component}"]["spec"]["containers"][0]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports


def test_images_come_from_registry_and_tag_or_as_given() -> None:
    full = pod_templates(rendered(FULL))
    images = {name: template["spec"]["containers"][0]["image"] for name, template in full.items()}
    assert images == {
        "modelyard-operator": "registry.example.com/ai/modelyard-operator:1.2",
        "modelyard-cleanup": "registry.example.com/ai/modelyard-operator:1.2",
        "modelyard-gateway": "registry.example.com/gateway@sha256:" + "0" * 64,
    }
    default = pod_templates(rendered({}))["modelyard-gateway"]["spec"]["containers"][0]["image"]
    assert default == "modelyard-gateway:0.1.0"
    assert environment(rendered({}), "modelyard-operator")["MODELYARD_SERVING_IMAGE"] == "modelyard-serving:0.1.0"
    assert environment(rendered(FULL), "modelyard-operator")["MODELYARD_SERVING_IMAGE"] == FULL["serving"]["image"]
    assert environment(rendered({}), "modelyard-operator")["MODELYARD_REDIS_IMAGE"] == "modelyard-redis:0.1.0"
    assert environment(rendered(FULL), "modelyard-operator")["MODELYARD_REDIS_IMAGE"] == FULL["redis"]["image"]


def test_placement_reaches_the_pods() -> None:
    spec = pod_templates(rendered(FULL))["modelyard-operator"]["spec"]
    assert spec["nodeSelector"] == {"pool": "system"}
    assert spec["tolerations"] == [{"key": "system", "operator": "Exists"}]
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["imagePullSecrets"] == [{"name": "reg"}]
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": 1, "memory": "256Mi"},
        "limits": {"memory": "1Gi"},
    }


def test_pool_and_cluster_are_what_the_values_say() -> None:
    objects = rendered(FULL)
    pool = one(objects, "AcceleratorPool", "cpu")["spec"]
    assert pool == {"device": "cpu"} | FULL["cpuPool"]
    cluster = one(objects, "ServingCluster", "default")
    given = FULL["defaultServingCluster"]
    pull_secrets = {"imagePullSecrets": FULL["image"]["pullSecrets"]}
    assert cluster["spec"] == given | {"runtime": given["runtime"] | pull_secrets}
    assert one(rendered({}), "ServingCluster", "default")["spec"] == {"allowedNamespaces": {"from": "All"}}
    alone = rendered({"defaultServingCluster": {"highAvailability": False}})
    assert one(alone, "ServingCluster", "default")["spec"]["highAvailability"] is False
    assert [shape["name"] for shape in one(rendered({}), "AcceleratorPool", "cpu")["spec"]["shapes"]] == [
        "small", "medium", "large",
    ]  # fmt: skip


def test_pull_secrets_of_the_default_cluster_are_its_own_where_it_names_some() -> None:
    values = {
        "image": {"pullSecrets": ["ours"]},
        "defaultServingCluster": {"runtime": {"imagePullSecrets": ["its"]}},
    }
    spec = one(rendered(values), "ServingCluster", "default")["spec"]
    assert spec["runtime"] == {"imagePullSecrets": ["its"]}


def test_without_cleanup_pool_and_cluster_there_is_nothing_of_them() -> None:
    kinds = {each["kind"] for each in rendered(MINIMAL)}
    assert not kinds & {"Job", "AcceleratorPool", "ServingCluster", "ServiceMonitor", "PodMonitor"}
    assert not [each for each in rendered(MINIMAL) if each["metadata"]["name"] == "modelyard-cleanup"]


def test_the_service_monitor_selects_both_metrics_services() -> None:
    objects = rendered(FULL)
    monitor = one(objects, "ServiceMonitor", "modelyard")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "1m"}]
    selector = monitor["spec"]["selector"]["matchLabels"]
    services = [each for each in objects if each["kind"] == "Service"]
    assert [each["metadata"]["name"] for each in services if _selects(selector, each["metadata"]["labels"])] == [
        "modelyard-gateway-metrics",
        "modelyard-operator-metrics",
    ]


def test_the_cleanup_runs_before_deletion_with_arguments_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    job = one(rendered(FULL), "Job", "modelyard-cleanup")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert shlex.join(command) == "python -P -m modelyard_operator.cleanup --timeout 60s"
    waited: list[float] = []

    async def run(timeout_s: float) -> None:
        waited.append(timeout_s)

    monkeypatch.setattr("modelyard_operator.cleanup.run", run)
    monkeypatch.setattr("modelyard_operator.logs.configure", lambda level: None)
    assert cleanup(command[4:]) == 0
    assert waited == [60.0]
    assert job["spec"]["activeDeadlineSeconds"] > 60


def _selects(selector: Manifest, labels: Manifest) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())
