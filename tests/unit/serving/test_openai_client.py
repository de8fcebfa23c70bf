"""Choices and log-probabilities as OpenAI's own client reads them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from transformers import AutoTokenizer

from modelyard_serving.replica import Replica

MODEL = "team-a/tiny"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "the quick brown fox"}]}
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "the lazy", "max_tokens": 12}


async def _chat(client: openai.AsyncOpenAI, **fields: Any) -> Any:
    create: Any = client.chat.completions.create
    return await create(**CHAT | fields)


async def _text(client: openai.AsyncOpenAI, **fields: Any) -> Any:
    create: Any = client.completions.create
    return await create(**TEXT | fields)


def _last_entry(log: Path) -> Any:
    return json.loads(log.read_text().splitlines()[-1])


async def test_choices_of_a_chat_are_the_same_streamed_and_not(client: openai.AsyncOpenAI) -> None:
    fields: dict[str, Any] = {"n": 3, "seed": 5, "max_tokens": 9, "extra_body": {"ignore_eos": True}}
    whole = await _chat(client, **fields)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 3
    assert whole.usage.completion_tokens == 27
    assert whole.usage.prompt_tokens == (await _chat(client, max_tokens=1)).usage.prompt_tokens
    chunks = [
        chunk async for chunk in await _chat(client, **fields, stream=True, stream_options={"include_usage": True})
    ]
    assert chunks[-1].usage == whole.usage
    for index, text in enumerate(texts):
        own = [chunk.choices[0] for chunk in chunks[:-1] if chunk.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in own) == text
        assert [choice.finish_reason for choice in own if choice.finish_reason] == ["length"]
    assert (await _chat(client, **fields | {"n": 1})).choices[0].message.content == texts[0]


async def test_choices_of_a_completion_are_the_same_streamed_and_not(client: openai.AsyncOpenAI) -> None:
    fields: dict[str, Any] = {"n": 2, "seed": 5, "extra_body": {"top_k": 40, "ignore_eos": True}}
    whole = await _text(client, **fields)
    texts = [choice.text for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert texts[0] != texts[1]
    assert whole.usage.completion_tokens == 24
    streamed = ["", ""]
    async for chunk in await _text(client, **fields, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == texts


async def test_logprobs_of_a_chat(client: openai.AsyncOpenAI) -> None:
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 4, "seed": 3, "max_tokens": 20, "n": 2}
    whole = await _chat(client, **fields)
    for choice in whole.choices:
        content = choice.logprobs.content
        spelled = b"".join(bytes(token.bytes) for token in content)
        assert spelled.decode(errors="replace") == choice.message.content
        for token in content:
            assert [other.logprob for other in token.top_logprobs] == sorted(
                (other.logprob for other in token.top_logprobs), reverse=True
            )
            assert len(token.top_logprobs) == 4
            assert token.logprob <= token.top_logprobs[0].logprob <= 0
            assert token.token.encode() == bytes(token.bytes) or token.token.startswith("\\x")
    streamed: list[list[Any]] = [[], []]
    async for chunk in await _chat(client, **fields, stream=True):
        choice = chunk.choices[0]
        if choice.logprobs:
            assert choice.delta.content
            streamed[choice.index] += choice.logprobs.content
    assert streamed == [choice.logprobs.content for choice in whole.choices]


async def test_logprobs_of_a_completion(client: openai.AsyncOpenAI) -> None:
    whole = (await _text(client, logprobs=2, seed=3, extra_body={"ignore_eos": True})).choices[0]
    told = whole.logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == 12
    for token, logprob, top, offset in zip(
        told.tokens, told.token_logprobs, told.top_logprobs, told.text_offset, strict=True
    ):
        assert top[token] >= logprob
        assert 2 <= len(top) <= 3
        # A broken character is in the text as a sign that no token has.
        assert token.startswith("bytes:") or whole.text[offset:].lstrip("\ufffd").startswith(token)
    chunks = [chunk.choices[0] async for chunk in await _text(
        client, logprobs=2, seed=3, stream=True, extra_body={"ignore_eos": True}
    )]  # fmt: skip
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [each for chunk in chunks if chunk.logprobs for each in getattr(chunk.logprobs, name)] == getattr(
            told, name
        )


async def test_logprobs_are_told_without_others_and_not_told_unasked(client: openai.AsyncOpenAI) -> None:
    alone = (await _text(client, logprobs=0, temperature=0)).choices[0].logprobs
    assert [list(top) for top in alone.top_logprobs] == [[token] for token in alone.tokens]
    assert (await _text(client)).choices[0].logprobs is None
    content = (await _chat(client, logprobs=True, max_tokens=3, temperature=0)).choices[0].logprobs.content
    assert [token.top_logprobs for token in content] == [[], [], []]
    assert (await _chat(client, max_tokens=3)).choices[0].logprobs is None


async def test_a_bias_rules_and_an_end_is_of_the_user_s_choice(client: openai.AsyncOpenAI, llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    fox, stop = tokenizer.convert_tokens_to_ids(["f", "x"])
    only = (await _text(client, logit_bias={fox: 100})).choices[0]
    assert (only.text, only.finish_reason) == ("f" * 12, "length")
    once = (await _text(client, logit_bias={fox: 100}, frequency_penalty=2, temperature=0)).choices[0]
    assert once.text == "f" * 12  # a bias of 100 is more than twelve times 2
    body = {"stop_token_ids": [stop], "min_tokens": 4}
    ended = await _text(client, logit_bias={stop: 100, fox: 50}, temperature=0, extra_body=body)
    assert (ended.choices[0].text, ended.choices[0].finish_reason) == ("ffff", "stop")
    assert ended.usage.completion_tokens == 5


async def test_choices_without_places_are_refused_whole(client: openai.AsyncOpenAI) -> None:
    asking = (_text(client, n=3, max_tokens=80, extra_body={"ignore_eos": True}) for _ in range(2))
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Completion", "RateLimitError"]
    with pytest.raises(openai.BadRequestError, match="5 is more than the 4 requests") as caught:
        await _text(client, n=5)
    assert caught.value.param == "n"


async def test_the_log_and_the_metrics_count_all_choices(
    client: openai.AsyncOpenAI, replica: Replica, log: Path
) -> None:
    answer = await _text(client, n=3, max_tokens=4, extra_body={"ignore_eos": True})
    entry = _last_entry(log)
    assert (entry["completion_tokens"], entry["finish"]) == (12, "length,length,length")
    assert entry["prompt_tokens"] == answer.usage.prompt_tokens
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(replica), base_url="http://replica") as plain:
        metrics = (await plain.get("/-/metrics")).text
    assert 'modelyard_tokens_total{kind="completion",revision="0123abcd",service="team-a/tiny"} 12.0' in metrics
