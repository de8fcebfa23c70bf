"""Embeddings as OpenAI's own client reads them, against transformers' own numbers."""

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.serving.tiny import config_for
from tests.unit.serving.tiny_encoder import CONTEXT, SIZE, WORDS, write_encoder, write_modules
from transformers import AutoModel, AutoTokenizer

from modelyard_serving.contract import EngineConfig, FailureReason, Proof
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.models.sentence_embedding import pool
from modelyard_serving.replica import Replica

MODEL = "team-a/tiny"
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
WEIGHTS = torch.arange(1, 6.0)[:, None]
TEXTS = ["the quick brown fox", "texts", "many clients at once and never waits " * 5, "the lazy dog, never seen"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Mean pooling, normalised, at most 60 tokens."""
    folder = write_encoder(tmp_path / "encoder")
    write_modules(folder, MEAN)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 60, "do_lower_case": False}))
    return folder


@asynccontextmanager
async def _serving(folder: Path, **changes: Any) -> AsyncIterator[tuple[openai.AsyncOpenAI, httpx2.AsyncClient]]:
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder, **changes))
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://replica") as plain,
        openai.AsyncOpenAI(
            base_url="http://replica/v1", api_key="none", max_retries=0,
            http_client=httpx2.AsyncClient(transport=transport),
        ) as client,
    ):  # fmt: skip
        yield client, plain
    await asyncio.to_thread(replica.close)


async def _embed(client: openai.AsyncOpenAI, texts: Any, **fields: Any) -> Any:
    create: Any = client.embeddings.create
    return await create(model=MODEL, input=texts, **fields)


def _entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _hidden(folder: Path, text: str) -> torch.Tensor:
    """The last hidden states of a text alone, as transformers computes them."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
    return states


def _expected(folder: Path, text: str) -> Any:
    return torch.nn.functional.normalize(_hidden(folder, text).mean(1), dim=1)[0].numpy()


async def test_the_vectors_are_those_of_transformers(folder: Path, log: Path) -> None:
    async with _serving(folder) as (client, plain):
        answer = await _embed(client, TEXTS)
        floats = await _embed(client, TEXTS, encoding_format="float")
        one = await _embed(client, TEXTS[0])
        tokens = AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"]
        as_tokens = await _embed(client, tokens)
        metrics = (await plain.get("/-/metrics")).text
        raw = (
            await plain.post("/v1/embeddings", json={"model": MODEL, "input": "x", "encoding_format": "base64"})
        ).json()
    assert [each.index for each in answer.data] == [0, 1, 2, 3]
    for text, each, same, again in zip(TEXTS, answer.data, floats.data, as_tokens.data, strict=True):
        np.testing.assert_allclose(each.embedding, _expected(folder, text), atol=1e-5)
        np.testing.assert_allclose(each.embedding, same.embedding, atol=1e-6)
        np.testing.assert_allclose(each.embedding, again.embedding, atol=1e-6)
    np.testing.assert_allclose(one.data[0].embedding, answer.data[0].embedding, atol=1e-5)
    total = sum(map(len, tokens))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (total, total)
    assert (answer.object, answer.model, answer.data[0].object) == ("list", MODEL, "embedding")
    assert set(raw["usage"]) == {"prompt_tokens", "total_tokens"}
    assert len(base64.b64decode(raw["data"][0]["embedding"])) == 4 * SIZE
    assert f'modelyard_batch_items_total{{revision="0123abcd",service="{MODEL}"}} 13.0' in metrics
    entries = _entries(log)
    assert next(entry["prompt_tokens"] for entry in entries if entry.get("endpoint") == "embeddings") == total
    assert "quick" not in str(entries)


async def test_equal_whatever_else_is_in_the_batch(folder: Path, log: Path) -> None:
    order = random.Random(3)
    texts = [" ".join(order.choices(WORDS, k=order.randint(1, 55))) for _ in range(60)]
    async with _serving(folder) as (client, _):
        alone = [(await _embed(client, text)).data[0].embedding for text in texts[:12]]
        together = await asyncio.gather(*(_embed(client, text) for text in texts))
        in_one = await _embed(client, texts)
    for place, vector in enumerate(alone):
        np.testing.assert_allclose(vector, together[place].data[0].embedding, atol=1e-5)
        np.testing.assert_allclose(vector, in_one.data[place].embedding, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", lambda states: states[:, 0]),
        ("max", lambda states: states.amax(1)),
        ("mean_sqrt_len_tokens", lambda states: states.sum(1) / states.shape[1] ** 0.5),
        ("lasttoken", lambda states: states[:, -1]),
        (
            "weightedmean",
            lambda states: (
                (states * (weights := torch.arange(1, states.shape[1] + 1.0)[:, None])).sum(1) / weights.sum()
            ),
        ),
    ],
)
def test_each_pooling_sees_the_text_alone(mode: str, expected: Any) -> None:
    states = torch.randn(1, 5, 3)
    padded = torch.cat([torch.cat([states, torch.full((1, 4, 3), 9.0)], dim=1), torch.randn(1, 9, 3)])
    mask = torch.tensor([[1] * 5 + [0] * 4, [1] * 9])
    torch.testing.assert_close(pool(padded, mask, mode)[:1], expected(states))


async def test_pooling_a_dense_layer_and_the_default_prompt_are_as_the_files_say(tmp_path: Path, log: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    write_modules(folder, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, normalize=False)
    prompts = {"prompts": {"query": "the model "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    async with _serving(folder) as (client, _):
        [found] = (await _embed(client, "waits")).data
    states = _hidden(folder, "the model waits")
    np.testing.assert_allclose(found.embedding, torch.cat([states[:, 0], states.mean(1)], dim=1)[0], atol=1e-5)

    folder = write_encoder(tmp_path / "dense")
    write_modules(folder, {"pooling_mode": "cls"}, dense=True)
    async with _serving(folder) as (client, _):
        [found] = (await _embed(client, "waits")).data
    layer = load_file(folder / "2_Dense" / "model.safetensors")
    pooled = _hidden(folder, "waits")[:, 0] @ layer["linear.weight"].T + layer["linear.bias"]
    np.testing.assert_allclose(found.embedding, torch.nn.functional.normalize(torch.tanh(pooled), dim=1)[0], atol=1e-5)


async def test_a_plain_folder_gets_the_mean(tmp_path: Path, log: Path) -> None:
    folder = write_encoder(tmp_path / "encoder", matryoshka_dimensions=[8, 16])
    async with _serving(folder) as (client, _):
        full = (await _embed(client, TEXTS[0])).data[0].embedding
        short = (await _embed(client, TEXTS[0], dimensions=8)).data[0].embedding
        with pytest.raises(
            openai.BadRequestError, match="12 is none of the model's: its vectors have 8, 16, 32"
        ) as caught:
            await _embed(client, TEXTS[0], dimensions=12)
    np.testing.assert_allclose(full, _hidden(folder, TEXTS[0]).mean(1)[0], atol=1e-5)
    assert short == full[:8]
    assert caught.value.param == "dimensions"


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": "fox " * 59}, "input", "has 61 tokens, 1 too many: the model reads 60"),
        ({"input": ["fox", "fox " * 59]}, "input.1", "1 too many"),
        ({"input": ""}, "input", "must not be empty"),
        ({"input": ["fox", ""]}, "input.1", "must not be empty"),
        ({"input": [[1], []]}, "input.1", "must not be empty"),
        ({"input": []}, "input", "from 1 to 2048"),
        ({"input": ["fox"] * 2049}, "input", "has 2049 inputs"),
        ({"input": [1, 2, 99]}, "input", "99 is no token: the model has 0 to"),
        ({"input": [[1], [-1]]}, "input.1", "-1 is no token"),
        ({"input": ["fox", [1]]}, "input", "must be a text, a list of texts"),
        ({"input": [1, True]}, "input", "must be a text, a list of texts"),
        ({"input": {"text": "fox"}}, "input", "must be a text, a list of texts"),
        ({"input": [[1] * 60] * 5001}, "input", "from 1 to 2048"),
        ({}, "input", "Field required"),
        ({"input": "fox", "encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
        ({"input": "fox", "dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"input": "fox", "dimensions": 16}, "dimensions", "and cannot be shortened"),
        ({"input": "fox", "truncate": True}, "truncate", "does not support"),
    ],
)
async def test_a_wrong_request_is_told_by_its_field(
    served: httpx2.AsyncClient, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = await served.post("/v1/embeddings", json={"model": MODEL} | fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]
    assert param in error["message"]


@pytest.fixture
async def served(folder: Path, log: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with _serving(folder) as (_, plain):
        yield plain


async def test_other_endpoints_are_not_there_and_the_model_must_be_named(served: httpx2.AsyncClient) -> None:
    assert (await served.post("/v1/completions", json={"model": MODEL, "prompt": "x"})).status_code == 404
    assert (await served.post("/v1/embeddings", json={"model": "other", "input": "x"})).status_code == 404
    assert (await served.get("/v1/models")).json()["data"][0]["id"] == MODEL


async def test_the_proof_is_a_real_inference(served: httpx2.AsyncClient) -> None:
    proof = Proof.model_validate_json((await served.get("/-/prove")).text)
    assert proof.tokens == 6
    assert proof.start.load_s > 0


async def test_a_full_queue_is_told_to_come_back(folder: Path, log: Path) -> None:
    async with _serving(folder, engine=EngineConfig(max_running=1, max_queued=1)) as (client, _):
        answers = await asyncio.gather(*(_embed(client, TEXTS * 100) for _ in range(6)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert 1 <= len(refused) <= 4
    assert len(answers) - len(refused) >= 2
    assert int(refused[0].response.headers["retry-after"]) >= 1


async def test_a_client_that_leaves_frees_its_place(folder: Path, log: Path) -> None:
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder))
    body = json.dumps({"model": MODEL, "input": TEXTS * 400}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/embeddings", "headers": [], "query_string": b"",
        "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    await replica(scope, receive, send)
    assert replica._service is not None
    assert replica._service.loaded.model.stats().queued == 0
    assert sent[0]["status"] == 499
    assert _entries(log)[-1]["error"] == "the client left before the answer"
    await asyncio.to_thread(replica.close)


def _break_modules(folder: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}, {"type": "x.WordWeights", "path": "1"}]
    (folder / "modules.json").write_text(json.dumps(modules))


def _break_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _drop_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_break_modules, "modules.json has the step WordWeights in 1, which is not known"),
        (lambda folder: (folder / "modules.json").write_text("[]"), "modules.json has no Pooling"),
        (lambda folder: (folder / "modules.json").write_text("{}"), "modules.json is not a list of objects"),
        (lambda folder: (folder / "1_Pooling" / "config.json").unlink(), "no 1_Pooling/config.json"),
        (lambda folder: (folder / "1_Pooling" / "config.json").write_text("{}"), "names no pooling"),
        (_break_weights, "computes no numbers"),
        (_drop_weights, "lack 1 tensors of the architecture, among them encoder.layer.1.output.dense.bias"),
    ],
)
async def test_a_folder_that_cannot_be_served(folder: Path, log: Path, damage: Any, words: str) -> None:
    damage(folder)
    with pytest.raises(StartFailure) as caught:
        await Replica(Journal.open()).configure(config_for(folder))
    assert caught.value.reason is FailureReason.MODEL_INVALID
    assert words in caught.value.message


async def test_a_pooler_that_the_weights_lack_does_not_matter(folder: Path, log: Path) -> None:
    weights = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    async with _serving(folder) as (client, _):
        [found] = (await _embed(client, TEXTS[0])).data
    np.testing.assert_allclose(found.embedding, _expected(folder, TEXTS[0]), atol=1e-5)
    assert len(TEXTS[2].split()) + 2 < CONTEXT
