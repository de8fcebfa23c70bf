"""Text classification and rerank over HTTP, against transformers' own numbers for each text alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from tests.unit.serving.tiny import config_for
from tests.unit.serving.tiny_encoder import write_encoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from modelyard_serving.contract import ModelConfig, Proof, Task
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica
from modelyard_serving.tasks.classification import Activation, activate, activation_of

MODEL = "team-a/tiny"
LABELS = {0: "calm", 1: "angry", 2: "lazy"}
TEXTS = ["the quick brown fox", "texts", "many clients at once and never waits " * 5, "the lazy dog"]


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder))
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://replica") as client:
        yield client
    await asyncio.to_thread(replica.close)


def _computed(folder: Path, *texts: str) -> torch.Tensor:
    """What transformers computes for a text, or a pair of texts, alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        row: torch.Tensor = model(**tokenizer(*texts, return_tensors="pt")).logits[0]
    return row


async def _post(client: httpx2.AsyncClient, path: str, **fields: Any) -> Any:
    answer = await client.post(path, json={"model": MODEL} | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("problem", "scores"),
    [
        (None, lambda row: row.softmax(0)),
        ("single_label_classification", lambda row: row.softmax(0)),
        ("multi_label_classification", lambda row: row.sigmoid()),
        ("regression", lambda row: row),
    ],
)
async def test_the_scores_are_those_of_transformers(
    tmp_path: Path, log: Path, problem: str | None, scores: Any
) -> None:
    folder = write_encoder(tmp_path / "model", labels=LABELS, problem_type=problem)
    async with _serving(folder) as client:
        answer = await _post(client, "/v1/classify", input=TEXTS)
        best = await _post(client, "/v1/classify", input=TEXTS[0], top_k=1)
        proof = Proof.model_validate_json((await client.get("/-/prove")).text)
    for index, text in enumerate(TEXTS):
        wanted = dict(zip(LABELS.values(), scores(_computed(folder, text)).tolist(), strict=True))
        found = answer["data"][index]
        assert found["index"] == index
        assert {each["label"]: each["score"] for each in found["labels"]} == pytest.approx(wanted, abs=1e-4)
        assert [each["label"] for each in found["labels"]] == sorted(wanted, key=lambda name: -wanted[name])
    assert best["data"][0]["labels"] == [pytest.approx(answer["data"][0]["labels"][0], abs=1e-4)]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 20
    assert proof.tokens == 6


async def test_openai_s_client_reaches_it(tmp_path: Path, log: Path) -> None:
    folder = write_encoder(tmp_path / "model", labels=LABELS)
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder))
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(replica, raise_app_exceptions=False))
    async with openai.AsyncOpenAI(base_url="http://replica/v1", api_key="none", http_client=http) as client:
        answer: Any = await client.post("/classify", body={"model": MODEL, "input": "fox"}, cast_to=object)
        with pytest.raises(openai.BadRequestError, match=r"input\.1: has 81 tokens, 17 too many") as caught:
            await client.post("/classify", body={"model": MODEL, "input": ["fox", "fox " * 79]}, cast_to=object)
    assert len(answer["data"][0]["labels"]) == 3
    assert caught.value.param == "input.1"
    await asyncio.to_thread(replica.close)


async def test_documents_come_by_relevance(tmp_path: Path, log: Path) -> None:
    folder = write_encoder(tmp_path / "model", labels={0: "LABEL_0"})
    query = "the lazy fox"
    async with _serving(folder) as client:
        answer = await _post(client, "/v1/rerank", query=query, documents=[*TEXTS[:3], {"text": TEXTS[3]}])
        two = await _post(client, "/v1/rerank", query=query, documents=TEXTS, top_n=2, return_documents=True)
        cut = await _post(client, "/v1/rerank", query=query, documents=["fox dog " * 90], max_tokens_per_doc=3)
        long = await _post(client, "/v1/rerank", query=query, documents=["fox dog " * 90])
    wanted = [float(_computed(folder, query, text).sigmoid()) for text in TEXTS]
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert found == pytest.approx(dict(enumerate(wanted)), abs=1e-4)
    assert list(found) == sorted(found, key=lambda place: -wanted[place])
    assert "document" not in answer["results"][0]
    assert [result["index"] for result in two["results"]] == list(found)[:2]
    assert two["results"][0]["document"] == {"text": TEXTS[two["results"][0]["index"]]}
    score = float(_computed(folder, query, "fox dog fox").sigmoid())
    assert cut["results"][0]["relevance_score"] == pytest.approx(score, abs=1e-4)
    assert (cut["usage"]["total_tokens"], long["usage"]["total_tokens"]) == (9, 64)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"query": "", "documents": ["x"]}, "query", "at least 1 character"),
        ({"query": "fox " * 61, "documents": ["x"]}, "query", "has 1 tokens too many: the model reads 64"),
        ({"query": "fox", "documents": []}, "documents", "at least 1 item"),
        ({"query": "fox", "documents": ["x"] * 1001}, "documents", "at most 1000 items"),
        ({"query": "fox", "documents": [7]}, "documents.0", "should be an object"),
        ({"query": "fox", "documents": [{"title": "x"}]}, "documents.0.text", "Field required"),
        ({"query": "fox", "documents": ["x"], "top_n": 0}, "top_n", "greater than or equal to 1"),
        ({"query": "fox", "documents": ["x"], "rank_fields": []}, "rank_fields", "does not support"),
    ],
)
async def test_a_wrong_request_is_told_by_its_field(
    reranker: httpx2.AsyncClient, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = await reranker.post("/v1/rerank", json={"model": MODEL} | fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["message"]


@pytest.fixture
async def reranker(tmp_path: Path, log: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with _serving(write_encoder(tmp_path / "model", labels={0: "LABEL_0"})) as client:
        yield client


@pytest.mark.parametrize(
    ("labels", "task", "words"),
    [
        (None, Task.TEXT_CLASSIFICATION, "the weights lack 2 tensors of the architecture, among them classifier.bias"),
        (LABELS, Task.RERANK, "the model has 3 labels; a cross-encoder has one"),
    ],
)
async def test_a_folder_that_cannot_do_the_task(
    tmp_path: Path, log: Path, labels: dict[int, str] | None, task: Task, words: str
) -> None:
    folder = write_encoder(tmp_path / "model", labels=labels)
    model = ModelConfig(uri="pvc://models/tiny", path=str(folder), task=task)
    with pytest.raises(StartFailure) as caught:
        await Replica(Journal.open()).configure(config_for(folder).model_copy(update={"model": model}))
    assert words in caught.value.message


def test_scores_of_large_numbers_are_numbers() -> None:
    assert activate([1000.0, 0.0, -1000.0], Activation.SOFTMAX) == [1, 0, 0]
    assert activate([1000.0, 0.0, -1000.0], Activation.SIGMOID) == [1, 0.5, 0]
    assert activation_of(None, 1) is Activation.SIGMOID
