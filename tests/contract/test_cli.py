"""The commands against the real API server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contract.manifests import service
from tests.kubectl import Kubectl
from typer.testing import CliRunner, Result

from modelyard_operator.cli.main import app

NAME = "cli-smollm2"
REVISION = "1a2b3c4d"


def _run(kubeconfig: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--kubeconfig", str(kubeconfig)])


@pytest.fixture
def stored(kubectl: Kubectl) -> Iterator[dict[str, Any]]:
    """A ModelService with a status, as an operator would have written it."""
    kubectl.must("apply", "-f", "-", manifest=service(name=NAME))
    conditions = [{"type": "Ready", "status": "False", "reason": "LoadingModel", "message": "replicas load the model"}]
    status = {"observedGeneration": 1, "conditions": conditions, "url": f"http://gateway/default/{NAME}"}
    patch = json.dumps({"status": status})
    kubectl.must("patch", "msvc", NAME, "--subresource=status", "--type=merge", f"--patch={patch}")
    yield kubectl.must("get", "msvc", NAME, "-o", "json").json()
    kubectl.must("delete", "msvc", NAME)


def test_get_and_status_show_what_the_api_server_holds(kubectl: Kubectl, stored: dict[str, Any]) -> None:
    line = _run(kubectl.kubeconfig, "get", NAME).stdout.splitlines()[1]
    assert line.split()[:4] == [NAME, "False", "LoadingModel", "0/0"]
    assert ["default", NAME] in [row.split()[:2] for row in _run(kubectl.kubeconfig, "get", "-A").stdout.splitlines()]
    told = _run(kubectl.kubeconfig, "status", NAME)
    assert told.exit_code == 3
    assert told.stdout.startswith(f"default/{NAME}  LoadingModel  replicas load the model\n")
    shown = json.loads(_run(kubectl.kubeconfig, "get", NAME, "-o", "json").stdout)
    assert shown["status"] == stored["status"]
    assert shown["spec"] == stored["spec"]


def test_status_shows_the_events_of_its_object_alone(kubectl: Kubectl, stored: dict[str, Any]) -> None:
    for uid, message in ((stored["metadata"]["uid"], "about this one"), ("another", "about its predecessor")):
        kubectl.must("create", "-f", "-", manifest=_event(uid, message))
    told = json.loads(_run(kubectl.kubeconfig, "status", NAME, "-o", "json").stdout)
    assert [event["message"] for event in told["events"]] == ["about this one"]


def _event(uid: str, message: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{NAME}.", "namespace": "default"},
        "involvedObject": {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": "ModelService",
            "name": NAME,
            "namespace": "default",
            "uid": uid,
        },
        "type": "Normal",
        "reason": "LoadingModel",
        "message": message,
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }


def test_logs_of_a_pod_that_has_not_started_are_empty(kubectl: Kubectl, stored: dict[str, Any]) -> None:
    group = "cpu-small-c11c11"
    labels = {"modelyard.dev/managed": "true", "ray.io/cluster": "shared-0000aa", "ray.io/group": group}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{NAME}-worker", "namespace": "default", "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "ray-worker", "image": "none.invalid/none:1"}],
        },
    }
    kubectl.must("create", "serviceaccount", "default")
    kubectl.must("create", "-f", "-", manifest=[pod, _revision(group)])
    result = _run(kubectl.kubeconfig, "logs", NAME, "-o", "json")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    kubectl.must("delete", "pod", f"{NAME}-worker", "--force", "--grace-period=0")
    assert "No worker pod runs for" in _run(kubectl.kubeconfig, "logs", NAME).stderr
    kubectl.must("delete", "controllerrevision", f"{NAME}-{REVISION}")


def _revision(group: str) -> dict[str, Any]:
    labels = {"modelyard.dev/managed": "true", "modelyard.dev/service": NAME, "modelyard.dev/revision": REVISION}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{NAME}-{REVISION}",
            "namespace": "default",
            "labels": labels,
            "annotations": {"modelyard.dev/phase": "Candidate"},
        },
        "revision": 1,
        "data": {
            "schema": 1,
            "specHash": "0",
            "servingCluster": {"namespace": "default", "name": "shared"},
            "rayCluster": "shared-0000aa",
            "workerGroup": {"groupName": group},
        },
    }


def test_a_service_that_is_not_there_is_told_with_a_near_name(kubectl: Kubectl, stored: dict[str, Any]) -> None:
    result = _run(kubectl.kubeconfig, "status", "cli-smolm2")
    assert result.exit_code == 1
    assert f"Did you mean {NAME}?" in result.stderr


def test_a_user_without_rights_is_told_which(kubectl: Kubectl, tmp_path: Path) -> None:
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    kubectl.must("create", "serviceaccount", "powerless")
    token = kubectl.must("create", "token", "powerless").out.strip()
    config["users"][0]["user"] = {"token": token}
    file = tmp_path / "powerless"
    file.write_text(yaml.safe_dump(config))
    result = _run(file, "get")
    assert result.exit_code == 1
    assert "does not allow it" in result.stderr
    assert 'cannot list resource "modelservices"' in result.stderr


def test_an_api_server_that_is_away_is_told(kubectl: Kubectl, tmp_path: Path) -> None:
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    file = tmp_path / "away"
    file.write_text(yaml.safe_dump(config))
    result = _run(file, "get")
    assert result.exit_code == 1
    assert "The cluster does not answer" in result.stderr


def test_a_context_chooses_its_namespace(kubectl: Kubectl, tmp_path: Path) -> None:
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    first = config["contexts"][0]
    elsewhere = {"name": "elsewhere", "context": first["context"] | {"namespace": "kube-system"}}
    file = tmp_path / "contexts"
    file.write_text(yaml.safe_dump(config | {"contexts": [first, elsewhere]}))
    assert "in namespace 'kube-system'" in _run(file, "get", "--context", "elsewhere").stderr
    missing = _run(file, "get", "--context", "nowhere")
    assert missing.exit_code == 1
    assert "There is no cluster to talk to" in missing.stderr


def test_kubectl_takes_the_crds(kubectl: Kubectl) -> None:
    crds = list(yaml.safe_load_all(CliRunner().invoke(app, ["crds"]).stdout))
    answer = kubectl.must("apply", "--server-side", "--dry-run=server", "-f", "-", manifest=crds)
    assert len(answer.out.splitlines()) == 3
