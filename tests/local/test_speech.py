"""Whisper tiny.en on two sentences that somebody read (Jane Austen, by a reader of LibriVox; public domain)."""

import asyncio
from pathlib import Path

import httpx2
import openai
import pytest

from models.__main__ import main as prepare_models
from modelyard_hack.layout import cache_folder
from modelyard_serving.contract import ModelConfig, ReplicaConfig
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica

pytestmark = pytest.mark.timeout(300)

CLIP = Path(__file__).parent / "sense_and_sensibility.ogg"
SAID = (
    "had he married a more amiable woman he might have been made still more respectable than he was "
    "he might even have been made amiable himself"
)


async def test_whisper_writes_down_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_LOG_FILE", str(tmp_path / "replica.jsonl"))
    assert prepare_models(["whisper-tiny"]) == 0
    folder = cache_folder() / "models" / "whisper-tiny"
    model = ModelConfig(uri="pvc://models/whisper-tiny", path=str(folder))
    replica = Replica(Journal.open())
    await replica.configure(ReplicaConfig(service="team-a/whisper", revision="0123abcd", model=model))
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(replica))
    async with openai.AsyncOpenAI(base_url="http://replica/v1", api_key="none", http_client=http) as client:
        answer = await client.audio.transcriptions.create(
            model="team-a/whisper", file=CLIP, response_format="verbose_json"
        )
    await asyncio.to_thread(replica.close)
    words = answer.text.lower().replace("-", " ").replace(",", "").replace(".", "").split()
    assert words == SAID.split()
    assert answer.segments
    assert 8.5 < answer.segments[-1].end < 10
    assert all(segment.no_speech_prob < 0.5 and segment.avg_logprob > -0.6 for segment in answer.segments)
