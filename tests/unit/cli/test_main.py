"""The command as a whole."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from tests.unit.cli.conftest import Shell
from typer.main import get_command
from typer.testing import CliRunner

from modelyard_operator.cli.main import app

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_and_exit_codes(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"\n    modelyard {command}" in result.stdout
    assert "Exit codes: 0 done" in result.stdout


def test_the_commands_start_without_torch_and_ray() -> None:
    program = (
        "import modelyard_operator.cli.main, sys; print([m for m in ('torch', 'ray', 'kopf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version_names_the_release_and_the_api(shell: Shell) -> None:
    assert f"modelyard {version('modelyard')}, API modelyard.dev/v1alpha1" in shell("version").stdout
    told = json.loads(shell("version", "-o", "json").stdout)
    assert told["modelyard"] == version("modelyard")


def test_crds_are_those_of_the_repository(shell: Shell) -> None:
    printed = list(yaml.safe_load_all(shell("crds").stdout))
    folder = Path(__file__).parents[3] / "crds"
    stored = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    assert len(stored) == 3
    assert printed == stored
    by_name = {crd["metadata"]["name"]: crd for crd in json.loads(shell("crds", "-o", "json").stdout)["items"]}
    assert by_name == {crd["metadata"]["name"]: crd for crd in stored}
    assert shell.asked_for is None


@pytest.mark.parametrize(
    "content", ["", "not: [a kubeconfig", "apiVersion: v1\nkind: Config\ncurrent-context: gone\ncontexts: []\n"]
)
def test_a_bad_kubeconfig_is_told_without_a_traceback(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    result = CliRunner().invoke(app, ["get", "--kubeconfig", str(file)])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no cluster to talk to: ")
    assert "Traceback" not in result.stderr
