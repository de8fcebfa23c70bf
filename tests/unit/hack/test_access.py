import base64
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from modelyard_hack import cli
from modelyard_hack.access import chosen_access
from modelyard_hack.containers import index_environment
from modelyard_hack.images import ProjectImage, content_hash
from modelyard_hack.layout import cluster_state
from modelyard_hack.pki import kubeconfig
from modelyard_hack.step import StepError


def test_kubeconfig_names_another_cluster_reached_directly() -> None:
    access = chosen_access({"KUBECONFIG": "/elsewhere/config"})
    assert access.command("kubectl", "get") == ["kubectl", "get"]
    assert access.environment({})["KUBECONFIG"] == "/elsewhere/config"


@pytest.mark.parametrize("named", [{}, {"KUBECONFIG": str(cluster_state().kubeconfig)}])
def test_ours_is_reached_inside_its_network(named: dict[str, str]) -> None:
    access = chosen_access(named)
    assert access.command("kubectl")[0] == "nsenter"
    assert access.environment({"PATH": "/bin"})["PATH"].endswith(":/bin")


def test_a_kubeconfig_needs_no_other_file() -> None:
    config = json.loads(kubeconfig("https://h:1", ca=b"CA", certificate=b"C", key=b"K"))
    assert config["clusters"][0]["cluster"]["server"] == "https://h:1"
    assert base64.b64decode(config["users"][0]["user"]["client-key-data"]) == b"K"


def test_only_index_settings_enter_a_build_and_survive_the_shell() -> None:
    text = index_environment({"PIP_X": "it's $HOME", "UV_Y": "a b", "SECRET_TOKEN": "no"})
    assert "SECRET_TOKEN" not in text
    shown = subprocess.run(
        ["sh", "-c", f'eval {shlex.quote(text)}; printf "%s|%s" "$PIP_X" "$UV_Y"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "it's $HOME|a b"


def test_the_dependency_layer_is_keyed_by_its_inputs(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    both = [tmp_path / "a", tmp_path / "b"]
    before = content_hash(both)
    (tmp_path / "b").write_text("3")
    assert content_hash(both) != before


@pytest.mark.parametrize("kind", ["operator", "gateway", "serving"])
def test_every_image_that_ships_has_its_inputs(kind: str) -> None:
    image = ProjectImage(kind)
    assert all(path.is_file() for path in image.inputs())
    text = image.dockerfile.read_text()
    assert f"requirements/{kind}.txt" in text
    assert text.index("USER 1000:1000") > text.index(f"AS {kind}")


def test_exec_without_a_command_says_how() -> None:
    with pytest.raises(StepError, match="exec needs a command"):
        cli.pass_through("exec", ["--"])


@pytest.mark.parametrize("words", [["tools", "nonsense"], ["images", "nonsense"]])
def test_an_unknown_name_is_refused_with_the_choices(words: list[str]) -> None:
    arguments = cli.parser().parse_args(words)
    with pytest.raises(StepError, match="nonsense") as caught:
        arguments.action(arguments)
    assert "choose from" in caught.value.remedy
