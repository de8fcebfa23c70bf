"""The HTTP side with real, tiny models behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.unit.serving.fake_engine import FakeEngine
from tests.unit.serving.tiny import CONTEXT, config_for
from transformers import AutoTokenizer

from modelyard_serving.contract import Proof
from modelyard_serving.engines.protocol import Ending, EngineFailed, QueueFull, Sampling
from modelyard_serving.http.app import build_http_app
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica

MODEL = "team-a/tiny"
HELLO = [{"role": "user", "content": "the quick brown fox"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    async with _client(replica) as client:
        yield client


def _client(app: Any) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://replica")


def _requests(log: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == "request"]


def _events(answer: httpx2.Response) -> list[dict[str, Any]]:
    lines = answer.text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def _error(answer: httpx2.Response) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


async def test_a_streamed_chat_answer_is_the_whole_one_in_pieces(client: httpx2.AsyncClient) -> None:
    body = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 12}
    whole = (await client.post(CHAT, json=body)).json()
    answer = await client.post(CHAT, json=body | {"stream": True, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, usage = _events(answer)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "length"]
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == 12
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + 12
    assert (whole["object"], chunks[0]["object"]) == ("chat.completion", "chat.completion.chunk")
    assert {chunk["id"] for chunk in chunks} == {usage["id"]}
    assert all(chunk["usage"] is None for chunk in chunks)


async def test_a_streamed_completion_is_the_whole_one_in_pieces(client: httpx2.AsyncClient) -> None:
    body = {"model": MODEL, "prompt": "the lazy", "temperature": 0}
    whole = (await client.post(TEXT, json=body)).json()
    chunks = _events(await client.post(TEXT, json=body | {"stream": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 16


async def test_a_prompt_may_come_as_tokens(client: httpx2.AsyncClient, llama: Path) -> None:
    tokens = AutoTokenizer.from_pretrained(llama)("the lazy")["input_ids"]
    bodies = [{"model": MODEL, "prompt": prompt, "temperature": 0} for prompt in ("the lazy", list(tokens))]
    as_text, as_tokens = [(await client.post(TEXT, json=body)).json() for body in bodies]
    assert as_text["choices"] == as_tokens["choices"]


async def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: httpx2.AsyncClient) -> None:
    body: dict[str, Any] = {"model": MODEL, "prompt": "fox", "temperature": 0, "max_tokens": 30}
    text = (await client.post(TEXT, json=body)).json()["choices"][0]["text"]
    stop = text[10:14]
    answer = (await client.post(TEXT, json=body | {"stop": [stop]})).json()
    assert answer["choices"][0]["text"] == text[: text.index(stop)]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] < 30
    again = (await client.post(TEXT, json=body | {"stop": stop})).json()
    assert again["choices"] == answer["choices"]


async def test_a_seed_repeats_an_answer(client: httpx2.AsyncClient) -> None:
    body = {"model": MODEL, "messages": HELLO, "temperature": 1.2, "top_p": 0.95, "max_completion_tokens": 20}
    texts = [
        (await client.post(CHAT, json=body | {"seed": seed})).json()["choices"][0]["message"]["content"]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


async def test_the_model_is_listed_by_its_id(client: httpx2.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert [card["id"] for card in listed["data"]] == [MODEL]
    assert (await client.get(f"/v1/models/{MODEL}")).json() == listed["data"][0]
    other = await client.get("/v1/models/team-a/other")
    assert (other.status_code, _error(other)["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        (CHAT, {"messages": HELLO}, "model", "Field required"),
        (CHAT, {"model": MODEL}, "messages", "Field required"),
        (CHAT, {"model": MODEL, "messages": []}, "messages", "at least 1 item"),
        (CHAT, {"model": MODEL, "messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "'user'"),
        (CHAT, {"model": MODEL, "messages": [{"role": "assistant", "content": "x"}]}, "messages", "begin with user"),
        (CHAT, {"model": MODEL, "messages": HELLO, "n": 9}, "n", "less than or equal to 8"),
        (CHAT, {"model": MODEL, "messages": HELLO, "n": 5}, "n", "5 is more than the 4 requests"),
        (CHAT, {"model": MODEL, "messages": HELLO, "top_logprobs": 3}, "top_logprobs", "needs logprobs: true"),
        (
            CHAT,
            {"model": MODEL, "messages": HELLO, "logprobs": True, "top_logprobs": 21},
            "top_logprobs",
            "less than or equal to 20",
        ),
        (TEXT, {"model": MODEL, "prompt": "x", "logprobs": 6}, "logprobs", "less than or equal to 5"),
        (CHAT, {"model": MODEL, "messages": HELLO, "max_tokens": 1, "max_completion_tokens": 1}, "body", "one of them"),
        (CHAT, {"model": MODEL, "messages": HELLO, "max_completion_tokens": 99}, "max_completion_tokens", "too many"),
        (CHAT, {"model": MODEL, "messages": [{"role": "user", "content": "x" * 500}]}, "messages", "too many"),
        (TEXT, {"model": MODEL, "prompt": "x", "temperature": 2.1}, "temperature", "less than or equal to 2"),
        (TEXT, {"model": MODEL, "prompt": "x", "top_p": 0}, "top_p", "greater than 0"),
        (TEXT, {"model": MODEL, "prompt": "x", "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        (TEXT, {"model": MODEL, "prompt": "x", "stop": ["a"] * 5}, "stop", "at most 4 items"),
        (TEXT, {"model": MODEL, "prompt": "x", "stop": ["a", 1]}, "stop.1", "valid string"),
        (TEXT, {"model": MODEL, "prompt": ["x", "y"]}, "prompt", "one request for each prompt"),
        (CHAT, {"model": MODEL, "messages": [{"role": "user", "content": 7}]}, "messages.0.content", "valid array"),
        (TEXT, {"model": MODEL, "prompt": "x", "seed": "dice"}, "seed", "valid integer"),
        (TEXT, {"model": MODEL, "prompt": "x", "top_k": -2}, "top_k", "greater than or equal to -1"),
        (TEXT, {"model": MODEL, "prompt": "x", "min_p": 1.1}, "min_p", "less than or equal to 1"),
        (TEXT, {"model": MODEL, "prompt": "x", "repetition_penalty": 0}, "repetition_penalty", "equal to 0.01"),
        (TEXT, {"model": MODEL, "prompt": "x", "presence_penalty": 2.5}, "presence_penalty", "less than or equal to 2"),
        (CHAT, {"model": MODEL, "messages": HELLO, "frequency_penalty": -3}, "frequency_penalty", "equal to -2"),
        (TEXT, {"model": MODEL, "prompt": "x", "logit_bias": {"7": 101}}, "logit_bias.7", "less than or equal to 100"),
        (TEXT, {"model": MODEL, "prompt": "x", "logit_bias": {"fox": 1}}, "logit_bias.fox", "valid integer"),
        (TEXT, {"model": MODEL, "prompt": "x", "logit_bias": {"5000": 1}}, "logit_bias", "5000 is no token"),
        (TEXT, {"model": MODEL, "prompt": "x", "stop_token_ids": [-1]}, "stop_token_ids", "-1 is no token"),
        (TEXT, {"model": MODEL, "prompt": "x", "min_tokens": 17}, "min_tokens", "more than the 16 tokens"),
        (TEXT, {"model": MODEL, "prompt": "x", "ignore_eos": "maybe"}, "ignore_eos", "valid boolean"),
        (TEXT, {"model": MODEL, "prompt": "x", "echo": True}, "echo", "does not support"),
        (TEXT, {"model": MODEL, "prompt": "x", "best_of": 2}, "best_of", "does not support"),
        (TEXT, {"model": MODEL, "prompt": "x", "suffix": "y"}, "suffix", "does not support"),
        (TEXT, {"model": MODEL, "prompt": [5000]}, "prompt", "5000 is no token"),
        (TEXT, {"model": MODEL, "prompt": []}, "prompt", "the prompt is empty"),
        (TEXT, {"model": MODEL, "prompt": "x", "max_tokens": CONTEXT}, "max_tokens", "is 1 too many"),
    ],
)
async def test_a_wrong_request_is_told_field_by_field(
    client: httpx2.AsyncClient, path: str, body: dict[str, Any], param: str, words: str
) -> None:
    answer = await client.post(path, json=body)
    error = _error(answer)
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]
    assert param in error["message"]


async def test_every_field_of_sampling_reaches_the_engine(replica: Replica) -> None:
    engine = FakeEngine([97, 98])
    fields: dict[str, Any] = {
        "temperature": 0.5, "top_k": 3, "top_p": 0.25, "min_p": 0.125, "seed": 7, "presence_penalty": -0.5,
        "frequency_penalty": 1.5, "repetition_penalty": 1.25,
    }  # fmt: skip
    endings = {"min_tokens": 2, "ignore_eos": True, "stop_token_ids": [4, 5]}
    body = {"model": MODEL, "prompt": "x", "logit_bias": {"7": -100, "8": 0.5}} | fields | endings
    async with _client(build_http_app(_with_engine(replica, engine))) as client:
        assert (await client.post(TEXT, json=body)).status_code == 200
        assert (await client.post(TEXT, json={"model": MODEL, "prompt": "x", "top_k": -1})).status_code == 200
    asked, plain = engine.requests
    assert asked.sampling == Sampling(logit_bias=((7, -100.0), (8, 0.5)), **fields)
    assert asked.ending == Ending(min_tokens=2, ignore_eos=True, stop_tokens=frozenset({4, 5}))
    assert (plain.sampling, plain.ending) == (Sampling(), Ending())


async def test_what_clients_send_without_meaning_it_is_accepted(client: httpx2.AsyncClient) -> None:
    body = {
        "model": MODEL, "messages": [{"role": "developer", "content": [{"type": "text", "text": "x"}], "name": None}],
        "max_tokens": 1, "stop": None, "n": 1, "presence_penalty": 0.0, "logprobs": False, "tools": None, "user": "u-1",
        "top_logprobs": 0,
    }  # fmt: skip
    assert (await client.post(CHAT, json=body)).status_code == 200


async def test_another_model_s_name_is_answered_with_the_right_one(client: httpx2.AsyncClient) -> None:
    answer = await client.post(TEXT, json={"model": "gpt-4", "prompt": "x"})
    error = _error(answer)
    assert (answer.status_code, error["code"]) == (404, "model_not_found")
    assert "'gpt-4'" in error["message"]
    assert f"'{MODEL}'" in error["message"]


async def test_broken_json_unknown_paths_and_methods(client: httpx2.AsyncClient) -> None:
    answers = [
        await client.post(CHAT, content="{nope"), await client.get("/v1/nothing"), await client.get(CHAT),
        await client.get("/v1/models/"),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [400, 404, 405, 404]
    messages = [_error(answer)["message"] for answer in answers]
    assert messages[0].startswith("the body is not JSON")
    assert messages[1:3] == ["there is no /v1/nothing", f"{CHAT} does not take GET"]
    assert answers[2].headers["allow"] == "POST"


async def test_a_body_without_end_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post(CHAT, content=b" " * (8 * 2**20 + 1))
    assert (answer.status_code, _error(answer)["code"]) == (413, "body_too_large")


async def test_chat_without_a_chat_template(gpt2: Path, log: Path) -> None:
    replica = Replica(Journal.open())
    await replica.configure(config_for(gpt2))
    async with _client(replica) as client:
        answer = await client.post(CHAT, json={"model": MODEL, "messages": HELLO})
    replica.close()
    assert (answer.status_code, _error(answer)["code"]) == (400, "no_chat_template")
    assert "use /v1/completions" in _error(answer)["message"]


async def test_one_request_more_than_the_queue_takes_is_told_to_come_back(client: httpx2.AsyncClient) -> None:
    body = {"model": MODEL, "prompt": "x", "max_tokens": CONTEXT - 1}
    answers = await asyncio.gather(*(client.post(TEXT, json=body) for _ in range(8)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 1 <= len(refused) <= 4
    assert {answer.status_code for answer in answers} == {200, 429}
    assert int(refused[0].headers["retry-after"]) >= 1
    assert (_error(refused[0])["type"], _error(refused[0])["code"]) == ("rate_limit_error", "queue_full")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_gives_its_place_back(replica: Replica, log: Path, stream: bool) -> None:
    assert replica._service is not None
    engine = FakeEngine([97, 98], None)
    app = build_http_app(_with_engine(replica, engine))
    async with _client(app) as client:
        body = {"model": MODEL, "prompt": "x", "stream": stream}
        asking = asyncio.create_task(client.post(TEXT, json=body))
        async with asyncio.timeout(5):
            while not engine.generations:  # noqa: ASYNC110 - the fake has no event
                await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert engine.generations[0].cancelled
    assert _requests(log)[-1]["status"] == 499


@pytest.mark.parametrize(
    ("engine", "status", "code"),
    [
        (FakeEngine([97, 98], None), 504, "timeout"),
        (FakeEngine([97, 98], EngineFailed("no such kernel")), 500, "engine_failed"),
    ],
)
async def test_what_goes_wrong_on_the_way_is_told_also_in_a_stream(
    replica: Replica, engine: FakeEngine, status: int, code: str
) -> None:
    app = build_http_app(_with_engine(replica, engine, request_timeout_s=0.05))
    async with _client(app) as client:
        whole = await client.post(TEXT, json={"model": MODEL, "prompt": "x"})
        streamed = await client.post(TEXT, json={"model": MODEL, "prompt": "x", "stream": True})
    assert (whole.status_code, _error(whole)["code"]) == (status, code)
    assert streamed.status_code == 200
    assert _events(streamed)[-1] == whole.json()
    assert all(generation.cancelled for generation in engine.generations)


@pytest.mark.parametrize(
    ("refusal", "status"), [(QueueFull(), 429), (EngineFailed("gone"), 500), (KeyError("bug"), 500)]
)
async def test_what_goes_wrong_before_a_stream_begins_has_its_status(
    replica: Replica, refusal: Exception, status: int
) -> None:
    async with _client(build_http_app(_with_engine(replica, FakeEngine(refusal=refusal)))) as client:
        answer = await client.post(TEXT, json={"model": MODEL, "prompt": "x", "stream": True})
    assert answer.status_code == status
    assert "bug" not in _error(answer)["message"]


async def test_the_proof_is_a_real_inference_with_the_ledger_of_the_start(client: httpx2.AsyncClient) -> None:
    proof = Proof.model_validate_json((await client.get("/-/prove")).text)
    assert (proof.service, proof.revision, proof.tokens) == (MODEL, "0123abcd", 4)
    assert 0 < proof.seconds < 10
    assert proof.start.load_s > 0


async def test_a_broken_engine_has_no_proof(replica: Replica) -> None:
    async with _client(build_http_app(_with_engine(replica, FakeEngine([1], EngineFailed("gone"))))) as client:
        answer = await client.get("/-/prove")
    assert (answer.status_code, _error(answer)["code"]) == (503, "proof_failed")


async def test_each_request_is_counted_and_logged_without_its_content(client: httpx2.AsyncClient, log: Path) -> None:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "quick secret"}],
        "max_tokens": 3,
        "user": "u-1",
        "seed": 1,
    }
    await client.post(CHAT, json=body, headers={"x-request-id": "r-1"})
    await client.post(CHAT, json={"model": MODEL})
    metrics = (await client.get("/-/metrics")).text
    names = 'revision="0123abcd",service="team-a/tiny"'
    for line in (
        f'modelyard_requests_total{{endpoint="chat.completions",{names},status="200"}} 1.0',
        f'modelyard_requests_total{{endpoint="chat.completions",{names},status="400"}} 1.0',
        f'modelyard_tokens_total{{kind="completion",{names}}} 3.0',
        f'gen_ai_server_time_to_first_token_seconds_count{{gen_ai_operation_name="chat",{names}}} 1.0',
        f'gen_ai_server_time_per_output_token_seconds_count{{gen_ai_operation_name="chat",{names}}} 1.0',
        f'gen_ai_server_request_duration_seconds_count{{error_type="",gen_ai_operation_name="chat",{names}}} 1.0',
        f'gen_ai_server_request_duration_seconds_count{{error_type="400",gen_ai_operation_name="chat",{names}}} 1.0',
        f"modelyard_running_requests{{{names}}} 0.0",
        f"modelyard_queued_requests{{{names}}} 0.0",
    ):
        assert line in metrics
    assert f'modelyard_start_seconds{{phase="load",{names}}}' in metrics
    good, bad, _ = _requests(log)
    assert (good["id"], good["status"], good["completion_tokens"], good["finish"]) == ("r-1", 200, 3, "length")
    assert (good["user"], good["service"], good["revision"]) == ("u-1", MODEL, "0123abcd")
    assert (bad["status"], bad["error"]) == (400, "messages: Field required")
    assert not [entry for entry in _requests(log) if "secret" in str(entry)]


def _with_engine(replica: Replica, engine: FakeEngine, **changes: Any) -> Any:
    """The replica's service with another engine behind it."""
    from dataclasses import replace

    from modelyard_serving.http.openai import TextEndpoints
    from modelyard_serving.service import Loaded
    from modelyard_serving.tasks.text_generation import TextGeneration

    service = replica._service
    assert service is not None
    present = service.loaded.model
    assert isinstance(present, TextGeneration)
    text = TextGeneration(engine, present._tokenizer)
    loaded = Loaded(text, lambda service: TextEndpoints(service, text).routes)
    return replace(service, loaded=loaded, config=service.config.model_copy(update=changes))
