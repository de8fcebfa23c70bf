"""A photograph through EfficientNet-lite0, as `make models` packs it."""

import asyncio
from pathlib import Path

import httpx2
import pytest
from tests.unit.serving.tiny import config_for

from models.__main__ import main as prepare_models
from modelyard_hack.layout import cache_folder
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica


@pytest.mark.timeout(300)
async def test_a_cat_is_a_cat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare_models(["efficientnet-lite0"]) == 0
    folder = cache_folder() / "models" / "efficientnet-lite0"
    monkeypatch.setenv("MODELYARD_LOG_FILE", str(tmp_path / "replica.jsonl"))
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder))
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://replica") as client:
        cat = await asyncio.to_thread((folder / "examples" / "cat.png").read_bytes)
        answer = await client.post("/v1/classify", content=cat, headers={"Content-Type": "image/png"})
    await asyncio.to_thread(replica.close)
    labels = answer.json()["data"][0]["labels"]
    assert len(labels) == 5
    assert "cat" in labels[0]["label"]
    assert labels[0]["score"] > 0.3
