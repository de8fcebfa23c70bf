"""Calls of tools: read out of text in any pieces, demanded by the request, told in OpenAI's shape."""

import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.fake_engine import FakeEngine
from transformers import AutoTokenizer

from modelyard_serving.engines.protocol import FinishReason
from modelyard_serving.http.app import build_http_app
from modelyard_serving.http.openai import TextEndpoints
from modelyard_serving.http.tools import NO_PARAMETERS
from modelyard_serving.replica import Replica
from modelyard_serving.service import Loaded
from modelyard_serving.tasks.text_generation import TextGeneration
from modelyard_serving.tasks.tool_calls import CallReader, CallStyle, Part, ToolCall, call_style, calls_schema

MODEL = "team-a/tiny"
ADD = ToolCall("add", '{"a": 1}')
NOW = ToolCall("now", "{}")
TAGGED_ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
TAGGED_NOW = '<tool_call>{"name": "now", "arguments": "{}"}</tool_call>'
WHOLE_ADD = '{"name": "add", "parameters": {"a": 1}}'

TEXTS = [
    (CallStyle.TAGGED, "plain < text <tool", Part("plain < text <tool")),
    (CallStyle.TAGGED, TAGGED_ADD, Part(calls=(ADD,))),
    (CallStyle.TAGGED, f"I add:\n{TAGGED_ADD}\n{TAGGED_NOW} done", Part("I add:\n\n done", (ADD, NOW))),
    (CallStyle.TAGGED, "<tool_call>none</tool_call>", Part("<tool_call>none</tool_call>")),
    (CallStyle.TAGGED, '<tool_call>{"name": "add"', Part('<tool_call>{"name": "add"')),
    (CallStyle.TAGGED, '<tool_call>{"name": "add", "arguments": {"a": 1}}', Part(calls=(ADD,))),
    (CallStyle.TAGGED, WHOLE_ADD, Part(WHOLE_ADD)),
    (CallStyle.WHOLE, f"\n {WHOLE_ADD}", Part(calls=(ADD,))),
    (CallStyle.WHOLE, f'[{WHOLE_ADD}, {{"name": "now", "arguments": {{}}}}]', Part(calls=(ADD, NOW))),
    (CallStyle.WHOLE, f"{WHOLE_ADD} is what I call", Part(f"{WHOLE_ADD} is what I call")),
    (CallStyle.WHOLE, f'[{WHOLE_ADD}, "now"]', Part(f'[{WHOLE_ADD}, "now"]')),
    (CallStyle.WHOLE, '{"name": "add"}', Part('{"name": "add"}')),
    (CallStyle.WHOLE, f"see {WHOLE_ADD}", Part(f"see {WHOLE_ADD}")),
    (CallStyle.WHOLE, "[]", Part("[]")),
    (CallStyle.WHOLE, "", Part()),
    (CallStyle.NOWHERE, TAGGED_ADD, Part(TAGGED_ADD)),
]  # fmt: skip


@pytest.mark.parametrize(("style", "text", "read"), TEXTS)
@given(cuts=st.sets(st.integers(0, 120)))
def test_calls_are_read_whatever_pieces_they_come_in(style: CallStyle, text: str, read: Part, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    reader, found = CallReader(style), Part()
    for begin, end in itertools.pairwise(places):
        found += reader.push(text[begin:end])
    assert found + reader.finish() == read


def test_text_before_a_call_is_shown_at_once() -> None:
    reader = CallReader(CallStyle.TAGGED)
    assert reader.push("I add: <") == Part("I add: ")
    assert reader.push("b> <tool_call>{") == Part("<b> ")


@pytest.mark.parametrize(("text", "part"), [('{"a": 1}', Part(calls=(ADD,))), ('{"a": 1', Part('{"a": 1'))])
def test_arguments_of_the_named_tool(text: str, part: Part) -> None:
    reader = CallReader(CallStyle.WHOLE, only="add")
    assert reader.push(text) == Part()
    assert reader.finish() == part


def test_the_template_says_how_calls_are_written() -> None:
    assert call_style("{% if tools %}write <tool_call>{...}</tool_call>{% endif %}") is CallStyle.TAGGED
    assert call_style("{% if tools %}write JSON{% endif %}") is CallStyle.WHOLE


def test_the_schema_of_calls() -> None:
    tools = [("add", {"properties": {"a": {"type": "integer"}}, "required": ["a"]}), ("now", {})]
    one, several = (calls_schema(tools, several=several) for several in (False, True))
    add, now = {"name": "add", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}
    jsonschema.validate([add], one)
    jsonschema.validate([add, now], several)
    for wrong in ([add, now], [], [{"name": "add", "arguments": {}}], [{"name": "sub", "arguments": {}}], add):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, one)


TEMPLATE = (
    "{% for tool in tools or [] %}{{ tool.function.name }}\n{% endfor %}{% for m in messages %}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments.a }}{% endfor %}"
    "{{ m.role }}: {{ m.content }}\n{% endfor %}"
)
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"enum": ["x", "y"]}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
HELLO = [{"role": "user", "content": "fox"}]


@pytest.fixture
def template() -> str:
    return TEMPLATE


@pytest.fixture
async def client(replica: Replica, template: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """The replica's model with a chat template that knows tools."""
    _text(replica)._tokenizer.chat_template = template
    async with _client(replica) as client:
        yield client


def _text(replica: Replica) -> TextGeneration:
    assert replica._service is not None
    text = replica._service.loaded.model
    assert isinstance(text, TextGeneration)
    return text


def _client(app: Any) -> openai.AsyncOpenAI:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    http_client = httpx2.AsyncClient(transport=transport)
    return openai.AsyncOpenAI(base_url="http://replica/v1", api_key="none", max_retries=0, http_client=http_client)


async def _chat(client: openai.AsyncOpenAI, **fields: Any) -> Any:
    create: Any = client.chat.completions.create
    return await create(**{"model": MODEL, "messages": HELLO, "tools": TOOLS, "max_tokens": 70} | fields)


async def _streamed(client: openai.AsyncOpenAI, **fields: Any) -> tuple[str, list[Any], list[str]]:
    """Text, calls and reasons of ends of a streamed answer."""
    text, calls, ends = "", list[Any](), list[str]()
    async for chunk in await _chat(client, stream=True, **fields):
        (choice,) = chunk.choices
        text += choice.delta.content or ""
        calls += choice.delta.tool_calls or []
        ends += [choice.finish_reason] if choice.finish_reason else []
    return text, calls, ends


@pytest.mark.parametrize("parallel", [True, False])
async def test_a_demanded_call_is_one_of_the_tools(client: openai.AsyncOpenAI, parallel: bool) -> None:
    answer = await _chat(client, tool_choice="required", parallel_tool_calls=parallel, temperature=1, seed=4)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    schemas = {tool["function"]["name"]: tool["function"].get("parameters", NO_PARAMETERS) for tool in TOOLS}
    for call in choice.message.tool_calls:
        jsonschema.validate(json.loads(call.function.arguments), schemas[call.function.name])
    assert len({call.id for call in choice.message.tool_calls}) == len(choice.message.tool_calls)
    assert parallel or len(choice.message.tool_calls) == 1


async def test_the_named_tool_is_called_streamed_and_not(client: openai.AsyncOpenAI) -> None:
    fields = {"tool_choice": {"type": "function", "function": {"name": "add"}}, "temperature": 0}
    whole = (await _chat(client, **fields)).choices[0]
    (call,) = whole.message.tool_calls
    assert (whole.finish_reason, call.function.name) == ("tool_calls", "add")
    jsonschema.validate(json.loads(call.function.arguments), TOOLS[0]["function"]["parameters"])
    text, calls, ends = await _streamed(client, **fields)
    assert (text, ends) == ("", ["tool_calls"])
    ((index, function),) = [(each.index, each.function) for each in calls]
    assert (index, function.model_dump()) == (0, call.function.model_dump())


async def test_calls_that_the_model_chose(replica: Replica, llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = TEMPLATE + "{# <tool_call> #}"
    said = f"ok {TAGGED_ADD}{TAGGED_NOW}"
    engine = FakeEngine([*tokenizer.encode(said), tokenizer.eos_token_id], FinishReason.STOP, context_length=500)
    assert replica._service is not None
    text_generation = TextGeneration(engine, tokenizer)
    loaded = Loaded(text_generation, lambda service: TextEndpoints(service, text_generation).routes)
    service = replace(replica._service, loaded=loaded)
    async with _client(build_http_app(service)) as client:
        (whole,) = (await _chat(client)).choices
        text, calls, ends = await _streamed(client, stream_options={})
        (unread,) = (await _chat(client, tool_choice="none")).choices
    assert (whole.finish_reason, whole.message.content) == ("tool_calls", "ok")
    told = [(call.function.name, call.function.arguments) for call in whole.message.tool_calls]
    assert told == [("add", '{"a": 1}'), ("now", "{}")]
    assert (text, ends) == ("ok ", ["tool_calls"])
    assert [(each.index, each.function.name, each.function.arguments) for each in calls] == [
        (place, *call) for place, call in enumerate(told)
    ]
    assert (unread.finish_reason, unread.message.content, unread.message.tool_calls) == ("stop", said, None)
    with_tools, _, without = (tokenizer.decode(request.prompt) for request in engine.requests)
    assert with_tools.startswith("add\nnow\nuser: fox")
    assert without.startswith("user: fox")


async def test_a_conversation_with_calls_and_their_results(client: openai.AsyncOpenAI, replica: Replica) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 7}'}}
    turns = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "8"},
    ]
    answer = await _chat(client, messages=turns, tools=openai.NOT_GIVEN, max_tokens=1)
    prompt = "user: fox\nadd7assistant: \ntool: 8\n"
    assert answer.usage.prompt_tokens == len(_text(replica)._tokenizer.encode(prompt))


def _tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def _called(arguments: str) -> list[dict[str, Any]]:
    return [{"id": "c", "function": {"name": "add", "arguments": arguments}}]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [{"type": "retrieval"}]}, "tools.0.type", "'function'"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "pattern"),
        ({"tools": [_tool("now"), _tool("now")]}, "body", "each name must be there once"),
        ({"tools": [], "tool_choice": "required"}, "body", "tools is empty"),
        ({"tool_choice": _tool("sub")}, "body", "there is no tool 'sub'; there are add, now"),
        ({"tool_choice": "always"}, "tool_choice.literal['none','auto','required']", "'required'"),
        ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "body", "leave the other form out"),
        (
            {"tool_choice": "required", "tools": [_tool("a", parameters={"type": "x"})]},
            "tools",
            "Invalid type: x",
        ),
        ({"messages": [{"role": "tool", "content": "8"}]}, "messages.0", "tool_call_id: a tool's turn needs it"),
        ({"messages": [{"role": "user"}]}, "messages.0", "content: Field required"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": _called("{}")}]},
            "messages.0",
            "only an assistant's turn",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": _called("[1")}]},
            "messages.0.tool_calls.0.function.arguments",
            "must be a JSON object",
        ),
    ],
)  # fmt: skip
async def test_wrong_tools_are_told(client: openai.AsyncOpenAI, fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        await _chat(client, **fields)
    body: Any = error.value.body
    assert body["param"] == param
    assert words in body["message"]


@pytest.mark.parametrize("template", ["{% for m in messages %}{{ m.content }}{% endfor %}"])
async def test_a_template_without_tools_is_told(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="knows no tools"):
        await _chat(client)
    assert (await _chat(client, tool_choice="none")).choices[0].message.content
