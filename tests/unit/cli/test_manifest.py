"""What `modelyard run` makes of a manifest, before anything starts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelyard_operator.cli.main import app
from modelyard_operator.cli.manifest import InvalidManifest, read_services, replica_config
from modelyard_serving.contract import CacheConfig

GOOD = """
apiVersion: modelyard.dev/v1alpha1
kind: ModelService
metadata: {name: smollm2}
spec:
  model: {source: {uri: "pvc://models/llms/smollm2"}}
"""
CLUSTER_ONLY = """
apiVersion: modelyard.dev/v1alpha1
kind: ServingCluster
metadata: {name: shared}
"""


def _write(folder: Path, text: str) -> Path:
    file = folder / "manifest.yaml"
    file.write_text(text)
    return file


def test_a_manifest_becomes_the_contract_of_a_replica(tmp_path: Path) -> None:
    text = GOOD + "  requestTimeout: 90s\n"
    [service], notes = read_services(_write(tmp_path, f"{text}---{CLUSTER_ONLY}---\n"))
    config = replica_config(service, {"models": tmp_path}, None, tmp_path)
    assert (config.service, config.device, config.request_timeout_s) == ("default/smollm2", "cpu", 90)
    assert (config.model.uri, config.model.path) == ("pvc://models/llms/smollm2", f"{tmp_path}/llms/smollm2")
    assert config.memory_bytes is None
    assert len(config.revision) == 8
    assert notes == [
        f"{tmp_path}/manifest.yaml, document 2: modelyard.dev/v1alpha1 ServingCluster is not needed on this machine"
    ]


def test_a_model_of_a_hub_is_kept_in_the_cache(tmp_path: Path) -> None:
    [service], _ = read_services(_write(tmp_path, GOOD.replace("pvc://models/llms/smollm2", "hf://acme/tiny@v1")))
    config = replica_config(service, {}, None, tmp_path / "cache")
    assert (config.model.uri, config.model.path) == ("hf://acme/tiny@v1", "")
    assert config.cache == CacheConfig(path=str(tmp_path / "cache"))


def test_the_namespace_of_the_manifest_is_kept(tmp_path: Path) -> None:
    [service], _ = read_services(
        _write(tmp_path, GOOD.replace("{name: smollm2}", "{name: smollm2, namespace: team-a}"))
    )
    assert replica_config(service, {"models": tmp_path}, None, tmp_path).service == "team-a/smollm2"


@pytest.mark.parametrize(
    ("pool", "asked", "device"),
    [("cpu", None, "cpu"), ("l4", None, "cuda"), ("l4", "cpu", "cpu"), ("cpu", "cuda", "cuda")],
)
def test_the_pool_decides_the_device_unless_the_user_does(
    tmp_path: Path, pool: str, asked: str | None, device: str
) -> None:
    [service], _ = read_services(_write(tmp_path, f"{GOOD}  accelerator: {{pool: {pool}}}\n"))
    assert replica_config(service, {"models": tmp_path}, asked, tmp_path).device == device  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no document is a ModelService of modelyard.dev/v1alpha1"),
        (CLUSTER_ONLY, "no document is a ModelService"),
        ("a: [", "not YAML"),
        ("- a", "document 1: not an object with apiVersion and kind"),
        (GOOD.replace("v1alpha1", "v9"), "document 1: apiVersion: modelyard.dev/v9 is not known"),
        (GOOD.replace("spec:", "sepc:"), "document 1: sepc: unknown field"),
        (GOOD.replace("pvc://", "ftp://"), "document 1: spec.model.source.uri: must be pvc://<claim>/<folder>"),
        (
            GOOD + "  replica: 1\n",
            "document 1: spec.replica: there is no such field here; take it out, or correct its name",
        ),
        (GOOD + "  requestTimeout: soon\n", "document 1: spec.requestTimeout: "),
        (f"{GOOD}---{GOOD}", "document 2: metadata.name: default/smollm2 is in this file twice"),
    ],
)
def test_a_bad_manifest_is_told_by_file_document_and_field(tmp_path: Path, text: str, words: str) -> None:
    file = _write(tmp_path, text)
    with pytest.raises(InvalidManifest) as caught:
        read_services(file)
    assert str(caught.value).startswith(str(file))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("addition", "words"),
    [
        ("", "--volume models=DIRECTORY (given: other)"),
        ("  suspend: true\n", "spec.suspend says that it must not run"),
        ("  replicas: 0\n", "spec.replicas says that it must not run"),
    ],
)
def test_a_service_that_cannot_run_here_ends_with_2_before_anything_starts(
    tmp_path: Path, addition: str, words: str
) -> None:
    file = _write(tmp_path, GOOD + addition)
    result = CliRunner().invoke(app, ["run", "-f", str(file), "--volume", f"other={tmp_path}"])
    assert result.exit_code == 2
    assert f"Error: {file}: default/smollm2: " in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing option '--filename'"),
        (["-f", "absent.yaml"], "absent.yaml: No such file or directory"),
        (["-f", "x", "--volume", "models"], "is not CLAIM=DIRECTORY"),
        (["-f", "x", "--volume", "models=/absent"], "there is no directory /absent"),
        (["-f", "x", "--port", "0"], "--port"),
        (["-f", "x", "--device", "tpu"], "must be cpu or cuda"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["run", *arguments])
    assert result.exit_code == 2
    assert words in result.stderr
