"""hf:// against a hub of ours: what arrives, and what is said when it does not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sources.conftest import URI, Brought
from tests.sources.hub_server import COMMIT, Hub

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.order import Download


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def partials(folder: Path) -> list[Path]:
    return [*(folder.parents[1] / "partial").iterdir()]


def failure(bring: Brought, *arguments: Any, **settings: Any) -> StartFailure:
    with pytest.raises(StartFailure) as caught:
        bring(*arguments, **settings)
    return caught.value


def test_a_model_arrives_whole_without_pickles_and_with_a_record(hub: Hub, brought: Brought, tiny: Path) -> None:
    folder = brought()
    assert content(folder) == content(tiny)
    record = json.loads((folder / ".modelyard-source.json").read_text())
    assert (record["uri"], record["version"]) == (URI, COMMIT)
    assert {each["name"]: each["size"] for each in record["files"]} == {k: len(v) for k, v in content(tiny).items()}
    assert partials(folder) == []


def test_what_is_there_is_not_brought_again(hub: Hub, brought: Brought) -> None:
    folder = brought()
    begun = len(hub.begun_at)
    assert brought() == folder
    assert len(hub.begun_at) == begun


def test_a_model_that_changed_is_brought_beside_the_old_one(hub: Hub, brought: Brought) -> None:
    old = brought()
    hub.files["config.json"] += b"\n"
    new = brought()
    assert old != new
    assert (new / "config.json").read_bytes() == (old / "config.json").read_bytes() + b"\n"


@pytest.mark.parametrize("ranges", [True, False])
def test_what_is_cut_in_the_middle_is_resumed(hub: Hub, brought: Brought, tiny: Path, ranges: bool) -> None:
    hub.cuts, hub.ranges = {"model.safetensors": 2}, ranges
    assert content(brought()) == content(tiny)
    begun = [at for name, at in hub.begun_at if name == "model.safetensors"]
    size = len(hub.files["model.safetensors"])
    assert begun == ([0, size // 2, (size // 2 + size) // 2] if ranges else [0, 0, 0])


def test_a_later_try_goes_on_where_an_earlier_one_gave_up(hub: Hub, brought: Brought, tiny: Path) -> None:
    hub.cuts = {"model.safetensors": 3}
    stopped = failure(brought)
    assert stopped.reason is FailureReason.SOURCE_UNREACHABLE
    size = len(hub.files["model.safetensors"])
    assert f"model.safetensors stopped at {size * 7 // 8} of {size} bytes" in stopped.message
    begun = len(hub.begun_at)
    assert content(brought()) == content(tiny)
    assert hub.begun_at[begun:] == [("model.safetensors", size * 7 // 8)]


def test_a_passing_failure_of_the_hub_is_waited_out(hub: Hub, brought: Brought, tiny: Path) -> None:
    hub.refusals = [503, 429]
    assert content(brought()) == content(tiny)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"], ids=["sha256", "git"])
def test_a_wrong_checksum_is_tried_once_more_and_told(hub: Hub, brought: Brought, name: str) -> None:
    hub.wrong = {name}
    damaged = failure(brought)
    assert damaged.reason is FailureReason.DOWNLOAD_CORRUPT
    assert f"{name} came twice with other bytes than its origin's checksum says" in damaged.message
    assert [each for each, _ in hub.begun_at].count(name) == 2
    hub.wrong = set()
    brought()


def test_a_part_that_was_spoilt_on_the_disk_is_brought_anew(
    hub: Hub, brought: Brought, tiny: Path, tmp_path: Path
) -> None:
    hub.cuts = {"model.safetensors": 3}
    failure(brought)
    [part] = (tmp_path / "cache" / "partial").rglob("model.safetensors.part")
    part.write_bytes(b"?" * part.stat().st_size)
    assert content(brought()) == content(tiny)


def test_a_mirror_that_tells_no_sizes_is_asked_for_each_file(hub: Hub, brought: Brought, tiny: Path) -> None:
    hub.sizes_told = False
    assert content(brought()) == content(tiny)
    hub.files["config.json"] += b"\n"
    hub.wrong = {"config.json"}
    assert failure(brought).reason is FailureReason.DOWNLOAD_CORRUPT


def test_the_token_of_the_environment_is_sent(
    hub: Hub, brought: Brought, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert content(brought()) == content(tiny)
    assert hub.tokens == {"hf_secret"}


@pytest.mark.parametrize(
    ("uri", "state", "reason", "words"),
    [
        ("hf://acme/other", {}, "ModelNotFound", "there is no repository acme/other at"),
        ("hf://acme/tiny@v9", {}, "ModelNotFound", "has no revision 'v9'; name a branch, a tag or a commit"),
        ("hf://acme/a--b", {}, "ModelNotFound", "not the name of a repository"),
        (URI, {"token": "x"}, "SourceDenied", "there is no token"),
        (URI, {"token": "x", "refusals": [404]}, "ModelNotFound", "not found at"),
        (URI, {"refusals": [403]}, "SourceDenied", "access is denied at"),
        (URI, {"refusals": [403]}, "SourceDenied", "HF_TOKEN (on a cluster a variable of the ServingCluster's"),
        (URI, {"gated": True}, "SourceDenied", "the repository is gated at"),
        (URI, {"refusals": [502] * 3}, "SourceUnreachable", "cannot be reached in 3 tries"),
        (URI, {"files": {"pytorch_model.bin": b"x"}}, "ModelInvalid", "The largest files are pytorch_model.bin"),
        (URI, {"files": {"../a.json": b"{}", "a.safetensors": b""}}, "ModelInvalid", "name leads elsewhere"),
    ],
)
def test_each_failure_says_what_to_do(
    hub: Hub, brought: Brought, uri: str, state: dict[str, Any], reason: str, words: str
) -> None:
    for name, value in state.items():
        setattr(hub, name, value)
    told = failure(brought, uri)
    assert told.reason == reason
    assert told.message.startswith(f"{uri}: ")
    assert words in told.message


def test_without_the_hub_the_copy_that_came_last_serves(hub: Hub, brought: Brought, told: list[dict[str, Any]]) -> None:
    folder = brought()
    hub.refusals = [503] * 3
    assert brought() == folder
    assert told[-1]["event"] == "source-unreachable"
    hub.refusals = [403]
    assert failure(brought).reason is FailureReason.SOURCE_DENIED


def test_a_connection_that_is_refused_is_told(hub: Hub, brought: Brought, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    told = failure(brought)
    assert told.reason is FailureReason.SOURCE_UNREACHABLE
    assert "http://127.0.0.1:1" in told.message


def test_weights_in_subfolders_come_only_where_they_are_stages(hub: Hub, brought: Brought) -> None:
    hub.files |= {"onnx/model.safetensors": b"1", "1_Pooling/config.json": b"{}", "consolidated.safetensors": b"2"}
    folder = brought()
    assert (folder / "1_Pooling" / "config.json").exists()
    assert not (folder / "onnx").exists()
    assert not (folder / "consolidated.safetensors").exists()
    hub.files |= {"modules.json": b"[]"}
    assert (brought() / "onnx" / "model.safetensors").exists()


def test_of_a_package_all_files_come(hub: Hub, brought: Brought) -> None:
    hub.files = {"modelyard.yaml": b"format: 1", "model.pt2": b"program", "README.md": b"#", "sub/data.bin": b"1"}
    hub.files |= {".gitattributes": b"x"}
    folder = brought()
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "modelyard.yaml", "model.pt2", "README.md", "sub/data.bin", ".modelyard-source.json",
    }  # fmt: skip
    del hub.files["modelyard.yaml"]
    assert "neither safetensors nor a package" in failure(brought).message


def test_progress_is_told(hub: Hub, download: Callable[..., Download], told: list[dict[str, Any]]) -> None:
    with download().stored():
        pass
    total = sum(len(data) for name, data in hub.files.items() if name not in ("pytorch_model.bin", ".gitattributes"))
    assert told[0] == {"event": "download", "bytes": total, "files": len(hub.files) - 2, "version": COMMIT}
