"""Helm on the charts of this repository."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from tests.kubectl import Answer, Kubectl, Manifest

from modelyard_hack.tools import tool_path

CHARTS = Path(__file__).parents[2] / "charts"
NAMESPACE = "modelyard"
FULL: Manifest = {
    "image": {"registry": "registry.example.com/ai/", "tag": "1.2", "pullPolicy": "Always", "pullSecrets": ["reg"]},
    "operator": {
        "logLevel": "DEBUG",
        "stuckAfterSeconds": 60,
        "resyncSeconds": 100,
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
    },
    "gateway": {
        "image": "registry.example.com/gateway@sha256:" + "0" * 64,
        "replicas": 3,
        "maxConnections": 500_000,
        "drainDelaySeconds": 10,
        "terminationGracePeriodSeconds": 90_000,
        "nodeSelector": {"pool": "edge"},
    },
    "serving": {"image": "registry.example.com/serving:gpu", "rayVersion": "2.61.0"},
    "redis": {"image": "registry.example.com/redis:8"},
    "cpuPool": {
        "nodeSelector": {"pool": "models"},
        "tolerations": [{"key": "models", "value": "yes", "effect": "NoSchedule"}],
        "shapes": [{"name": "one", "cpu": 1, "memory": "2Gi"}],
        "maxWorkers": 1000,
    },
    "defaultServingCluster": {
        "runtime": {
            "volumes": [{"claim": "models"}],
            "env": [{"name": "HF_TOKEN", "secretKeyRef": {"name": "hub", "key": "token"}}],
            "proxy": {"httpsProxy": "http://proxy.example.com:3128"},
        },
        "head": {"cpu": 1, "memory": "6Gi"},
        "modelCache": {"size": "50Gi", "claim": "cache"},
        "redis": {"storage": {"size": "2Gi", "storageClassName": "fast"}},
        "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"models": "shared"}}},
    },
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "1m"},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
    "networkPolicies": {"enabled": False},
    "cleanup": {"timeoutSeconds": 60},
}
MINIMAL: Manifest = {
    "gateway": {"replicas": 1},
    "cpuPool": {"enabled": False},
    "defaultServingCluster": {"enabled": False},
    "cleanup": {"enabled": False},
}
VARIANTS: dict[str, Manifest] = {"default": {}, "minimal": MINIMAL, "full": FULL}


def helm(*arguments: str, values: Manifest | None = None, kubectl: Kubectl | None = None) -> Answer:
    """Run Helm, whatever comes of it."""
    command = [tool_path("helm"), *arguments]
    if values is not None:
        command += ["--values", "-"]
    if kubectl is not None:
        command += ["--kubeconfig", str(kubectl.kubeconfig)]
    given = None if values is None else json.dumps(values)
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=50, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def template(values: Manifest, chart: str = "modelyard") -> Answer:
    """Render a chart without a cluster."""
    where = ("--namespace", NAMESPACE, "--kube-version", "1.34.0")
    return helm("template", "release", str(CHARTS / chart), *where, values=values)


def rendered(values: Manifest) -> list[Manifest]:
    """Every object of the chart `modelyard` with these values."""
    answer = template(values)
    assert answer.code == 0, answer.error
    return [each for each in yaml.safe_load_all(answer.out) if each]


def one(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """The object of this kind and name."""
    return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))


def pod_templates(objects: list[Manifest]) -> dict[str, Any]:
    """The pod templates by the names of their owners."""
    owners = [each for each in objects if each["kind"] in ("Deployment", "Job")]
    return {owner["metadata"]["name"]: owner["spec"]["template"] for owner in owners}


def environment(objects: list[Manifest], name: str) -> dict[str, str]:
    """The variables of a Deployment's container."""
    container = one(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
    return {variable["name"]: variable.get("value", "from-the-pod") for variable in container["env"]}
