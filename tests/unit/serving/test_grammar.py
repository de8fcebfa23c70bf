"""Answers held to a form: whatever the model would rather say, through the whole replica."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import openai
import pytest
import torch
from transformers import AutoTokenizer

from modelyard_serving.replica import Replica
from modelyard_serving.tasks.form import AnswerForm, InvalidForm
from modelyard_serving.tasks.grammar import Grammars

MODEL = "team-a/tiny"
PERSON = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}, "sure": {"type": "boolean"}},
    "required": ["age", "sure"],
    "additionalProperties": False,
}
NESTED = {
    "$defs": {"kind": {"enum": ["ä", "🦊", 1, None]}},
    "type": "array",
    "minItems": 2,
    "maxItems": 2,
    "items": {"anyOf": [{"$ref": "#/$defs/kind"}, {"type": "string", "pattern": "^[ab]{1,2}$"}]},
}


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


async def _chat(client: openai.AsyncOpenAI, **fields: Any) -> Any:
    create: Any = client.chat.completions.create
    return await create(**{"model": MODEL, "messages": [{"role": "user", "content": "fox"}], "max_tokens": 70} | fields)


async def _text(client: openai.AsyncOpenAI, form: dict[str, Any], **fields: Any) -> Any:
    create: Any = client.completions.create
    fields = {"model": MODEL, "prompt": "the", "max_tokens": 70} | fields
    return await create(**fields, extra_body={"structured_outputs": form})


@pytest.mark.parametrize("schema", [PERSON, NESTED], ids=["object", "nested"])
@pytest.mark.parametrize("temperature", [0, 1])
async def test_every_choice_is_json_of_the_schema(
    client: openai.AsyncOpenAI, schema: dict[str, Any], temperature: float
) -> None:
    answer = await _chat(client, response_format=_schema(schema), n=3, temperature=temperature, seed=3)
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content), schema)


async def test_a_stream_is_the_same_answer(client: openai.AsyncOpenAI) -> None:
    whole = await _chat(client, response_format=_schema(PERSON), temperature=0)
    stream = await _chat(client, response_format=_schema(PERSON), temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == whole.choices[0].message.content


async def test_without_a_form_the_model_says_something_else(client: openai.AsyncOpenAI) -> None:
    answer = await _chat(client, temperature=0, response_format={"type": "text"})
    with pytest.raises(ValueError, match=r"Expecting|Extra data"):
        json.loads(answer.choices[0].message.content)


async def test_an_object_without_a_schema(client: openai.AsyncOpenAI) -> None:
    answer = await _chat(client, response_format={"type": "json_object"}, temperature=1, seed=1)
    (choice,) = answer.choices
    assert choice.message.content.startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize("temperature", [0, 1])
async def test_text_of_an_expression_and_one_of_several(client: openai.AsyncOpenAI, temperature: float) -> None:
    expression = r"[a-c]{2}-(ä|東京)\.[0-9]{3}"
    answer = await _text(client, {"regex": expression}, temperature=temperature, seed=2)
    assert re.fullmatch(expression, answer.choices[0].text)
    choices = ["yes", 'no, "never"\n', "vielleicht später"]
    answer = await _text(client, {"choice": choices}, temperature=temperature, seed=2)
    assert answer.choices[0].text in choices
    assert answer.choices[0].finish_reason == "stop"


async def test_a_limit_of_tokens_cuts_a_form(client: openai.AsyncOpenAI) -> None:
    answer = await _text(client, {"regex": "[a-z]{40}"}, max_tokens=3)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)


def test_tokens_beyond_the_tokenizer_never_come(llama: Path) -> None:
    """Many models have more logits than tokens."""
    tokenizer = AutoTokenizer.from_pretrained(llama)
    grammars = Grammars(tokenizer, frozenset({tokenizer.eos_token_id}))
    state = grammars.grammar(AnswerForm("regex", "a+", "regex")).begin()
    logits = torch.zeros(len(tokenizer) + 5)
    logits[-1] = 9.0
    allowed = state.restrict(logits).isfinite().nonzero().flatten().tolist()
    assert {tokenizer.decode([token]) for token in allowed} == {"a"}
    assert logits.isfinite().all()
    with pytest.raises(InvalidForm):
        state.push(tokenizer.encode("b")[0])


def test_the_same_form_is_prepared_once(llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    grammars = Grammars(tokenizer, frozenset({tokenizer.eos_token_id}))
    one, other = (grammars.grammar(AnswerForm("regex", "a", field)) for field in ("one", "other"))
    assert one is other


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema is needed"),
        ({"response_format": {**_schema({}), "type": "text"}}, "response_format", "only there"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
            "pattern",
        ),
        (
            {"response_format": _schema({"type": "objekt"})},
            "response_format.json_schema.schema",
            "Invalid type: objekt",
        ),
        (
            {"response_format": _schema({"type": "array", "uniqueItems": True})},
            "response_format.json_schema.schema",
            "uniqueItems",
        ),
        (
            {"response_format": _schema({"$ref": "http://example.com/other.json"})},
            "response_format.json_schema.schema",
            "does not fetch",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "exactly one"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs", "exactly one"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex", "unclosed group"),
        ({"structured_outputs": {"regex": "(?=a)b"}}, "structured_outputs.regex", "look-ahead"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "at least 1"),
        ({"structured_outputs": {"choice": ["a", 1]}}, "structured_outputs.choice.1", "valid string"),
        ({"structured_outputs": {"grammar": "x"}}, "structured_outputs.grammar", "does not support"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "body",
            "set one of them",
        ),
        ({"structured_outputs": {"regex": "a"}, "min_tokens": 2}, "min_tokens", "leave min_tokens out"),
        ({"structured_outputs": {"regex": "a"}, "ignore_eos": True}, "ignore_eos", "leave ignore_eos out"),
    ],
)
async def test_a_wrong_form_is_told(replica: Replica, fields: dict[str, Any], param: str, words: str) -> None:
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://replica") as client:
        answer = await client.post("/v1/completions", json={"model": MODEL, "prompt": "x", **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]
