"""Tiny models, made once for all tests, and a replica of one of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest
from tests.unit.serving.tiny import config_for, write_model

from modelyard_serving.contract import EngineConfig
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 without chat template."""
    return write_model(tmp_path_factory.mktemp("models") / "gpt2", "gpt2", chat=False)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with chat template."""
    return write_model(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that replicas write their journal to."""
    path = tmp_path / "replica.jsonl"
    monkeypatch.setenv("MODELYARD_LOG_FILE", str(path))
    return path


@pytest.fixture
async def replica(log: Path, llama: Path) -> AsyncIterator[Replica]:
    """The Llama in a replica that takes four requests at once and no more."""
    replica = Replica(Journal.open())
    await replica.configure(config_for(llama, engine=EngineConfig(max_running=4, max_queued=0)))
    yield replica
    replica.close()


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client of the Llama."""
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    async with openai.AsyncOpenAI(
        base_url="http://replica/v1", api_key="none", max_retries=0, http_client=httpx2.AsyncClient(transport=transport)
    ) as client:
        yield client
