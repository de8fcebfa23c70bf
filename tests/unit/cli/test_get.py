"""`modelyard get`."""

import json
from pathlib import Path

import pytest
import yaml
from tests.unit.cli.conftest import Shell, condition, serving

from modelyard_operator.kube.client import MODEL_SERVICE
from modelyard_operator.kube.errors import Forbidden, KindAbsent, Unavailable


def test_a_line_says_ready_reason_replicas_revision_and_url(shell: Shell) -> None:
    shell.put_service("smollm2", **serving())
    result = shell("get")
    assert result.exit_code == 0
    heading, line = result.stdout.splitlines()
    assert heading.split() == ["NAME", "READY", "REASON", "REPLICAS", "REVISION", "URL", "AGE"]
    assert line.split()[:6] == ["smollm2", "True", "Serving", "2/2", "1a2b3c4d", "http://gateway/team-a/smollm2"]


def test_a_service_without_status_is_unknown(shell: Shell) -> None:
    shell.put_service("new")
    assert shell("get", "new").stdout.splitlines()[1].split()[:6] == ["new", "Unknown", "-", "0/0", "-", "-"]


def test_the_namespace_is_that_of_the_context_unless_named(shell: Shell) -> None:
    shell.put_service("mine")
    shell.put_service("theirs", namespace="team-b")
    assert "theirs" not in shell("get").stdout
    assert "mine" not in shell("get", "-n", "team-b").stdout
    lines = shell("get", "-A").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["NAMESPACE", "NAME"], ["team-a", "mine"], ["team-b", "theirs"]]


def test_json_and_yaml_are_what_the_api_server_holds(shell: Shell) -> None:
    stored = shell.put_service("smollm2", **serving())
    assert json.loads(shell("get", "smollm2", "-o", "json").stdout) == stored
    assert yaml.safe_load(shell("get", "smollm2", "-o", "yaml").stdout) == stored
    assert json.loads(shell("get", "-o", "json").stdout) == {"apiVersion": "v1", "kind": "List", "items": [stored]}


def test_a_status_of_a_newer_operator_is_readable(shell: Shell) -> None:
    shell.put_service("smollm2", **serving(), somethingNew={"x": 1})
    assert shell("get").exit_code == 0


def test_nothing_found_is_no_failure(shell: Shell) -> None:
    result = shell("get")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "There are no ModelServices in namespace 'team-a'.\n"
    assert json.loads(shell("get", "-o", "json").stdout)["items"] == []


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("smolm2", "Did you mean smollm2?"),
        ("chat", "There is one in namespace team-b: add -n team-b."),
        ("nothing-like-it", "`modelyard get -A` lists those of all namespaces."),
    ],
)
def test_a_name_that_is_not_there_is_told_with_near_ones(shell: Shell, asked: str, hint: str) -> None:
    shell.put_service("smollm2")
    shell.put_service("chat", namespace="team-b")
    result = shell("get", asked)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: There is no ModelService '{asked}' in namespace 'team-a'.\n{hint}\n"


def test_a_hint_does_not_need_the_right_to_list_all_namespaces(shell: Shell) -> None:
    shell.put_service("smollm2")
    shell.kube.fail("list", MODEL_SERVICE, Forbidden("cannot list at the cluster scope"))
    assert "Did you mean smollm2?" in shell("get", "smolm2").stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Forbidden("list ModelService: user x cannot list (403)"), ["does not allow it", "user x", "auth can-i"]),
        (KindAbsent("list ModelService: 404"), ["does not know Modelyard's kinds", "modelyard crds | kubectl apply"]),
        (Unavailable("list /apis: refused"), ["does not answer", "refused", "kubectl cluster-info"]),
    ],
)
def test_an_error_of_the_api_server_is_told_in_words(shell: Shell, error: Exception, words: list[str]) -> None:
    shell.kube.fail("list", MODEL_SERVICE, error)  # type: ignore[arg-type]
    result = shell("get")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    assert [word for word in words if word not in result.stderr] == []


@pytest.mark.parametrize(
    "arguments", [["get", "x", "-A"], ["get", "-n", "a", "-A"], ["get", "-o", "xml"], ["got"], ["get", "--what"]]
)
def test_wrong_usage_ends_with_2(shell: Shell, arguments: list[str]) -> None:
    assert shell(*arguments).exit_code == 2
    assert shell.asked_for is None


def test_kubeconfig_and_context_reach_the_cluster(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "config"
    assert shell("get", "--kubeconfig", str(file)).exit_code == 2
    file.touch()
    shell("get", "--kubeconfig", str(file), "--context", "prod")
    assert shell.asked_for == (file, "prod")


def test_a_service_that_is_not_ready_says_why(shell: Shell) -> None:
    shell.put_service("bad", conditions=[condition("Ready", "False", "ModelNotFound", "no such folder")])
    assert shell("get").stdout.splitlines()[1].split()[:3] == ["bad", "False", "ModelNotFound"]
