"""A replica that serves a model of a hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sources.conftest import URI
from tests.sources.hub_server import Hub

from modelyard_serving.contract import CacheConfig, FailureReason, ModelConfig, ReplicaConfig
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica


@pytest.fixture
def replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replica]:
    monkeypatch.setenv("MODELYARD_LOG_FILE", str(tmp_path / "log"))
    replica = Replica(Journal.open())
    yield replica
    replica.close()


def config(tmp_path: Path, uri: str = URI) -> ReplicaConfig:
    cache = CacheConfig(path=str(tmp_path / "cache"))
    return ReplicaConfig(service="team-a/tiny", revision="0123abcd", model=ModelConfig(uri=uri), cache=cache, threads=1)


async def test_it_downloads_first_and_tells_how_long_that_took(tmp_path: Path, hub: Hub, replica: Replica) -> None:
    await replica.configure(config(tmp_path))
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [each["phase"] for each in entries if each["event"] == "phase-begins"][:2] == ["download", "check"]
    assert any(each["event"] == "download" and each["service"] == "team-a/tiny" for each in entries)
    assert entries[-1]["event"] == "ready"
    assert entries[-1]["download_s"] > 0
    await replica.configure(config(tmp_path).model_copy(update={"request_timeout_s": 5}))
    assert sum(count for path, count in hub.asked.items() if path.startswith("api/")) == 1, "no second download"


async def test_the_copy_is_let_go_when_the_replica_ends(tmp_path: Path, hub: Hub, replica: Replica) -> None:
    await replica.configure(config(tmp_path))
    assert replica._copy is not None
    hold = replica._copy.hold
    replica.close()
    assert hold._descriptor is None


async def test_a_failed_download_is_journalled(tmp_path: Path, hub: Hub, replica: Replica) -> None:
    with pytest.raises(StartFailure) as caught:
        await replica.configure(config(tmp_path, "hf://acme/other"))
    assert caught.value.reason is FailureReason.MODEL_NOT_FOUND
    last = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    assert (last["event"], last["reason"]) == ("failed", "ModelNotFound")
