"""Calls of tools in a model's text.

Models write a call as JSON with a name and arguments, either between `<tool_call>` and `</tool_call>` (Hermes, Qwen,
SmolLM) or as their whole answer (Llama, Mistral, and every model that is held to calls by a form).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelyard_serving.tasks.text import StopMatcher

OPENING, CLOSING = "<tool_call>", "</tool_call>"


class CallStyle(StrEnum):
    """Where calls stand in the text."""

    NOWHERE = "nowhere"
    TAGGED = "tagged"
    WHOLE = "whole"


@dataclass(frozen=True)
class ToolCall:
    """A tool's name and its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Part:
    """Text for the user, or calls."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()

    def __add__(self, after: "Part") -> "Part":
        return Part(self.text + after.text, self.calls + after.calls)


def call_style(chat_template: str) -> CallStyle:
    """How a model writes its calls, by what its chat template tells it of them."""
    return CallStyle.TAGGED if OPENING in chat_template else CallStyle.WHOLE


class CallReader:
    """Reads one choice's text as it comes; what may still become a call is held back.

    `only`: the text is nothing but the arguments of this tool.
    """

    def __init__(self, style: CallStyle, *, only: str | None = None) -> None:
        self._style = style
        self._only = only
        self._opening = StopMatcher([OPENING])
        self._held = ""
        self._inside = False

    def push(self, text: str) -> Part:
        """What is certain now."""
        if self._only is not None:
            self._held += text
            return Part()
        match self._style:
            case CallStyle.NOWHERE:
                return Part(text)
            case CallStyle.TAGGED:
                return self._push_tagged(text)
            case CallStyle.WHOLE:
                return self._push_whole(text)

    def finish(self) -> Part:
        """What is left at the end: text that did not become a call is text."""
        held, self._held = self._held, ""
        if self._only is not None:
            return Part(calls=(ToolCall(self._only, held),)) if _is_object(held) else Part(held)
        if self._style is CallStyle.TAGGED:
            if self._inside:
                return _calls_or_text(held, otherwise=OPENING + held)
            return Part(self._opening.finish())
        return _calls_or_text(held, otherwise=held)

    def _push_whole(self, text: str) -> Part:
        if not self._held and self._inside:
            return Part(text)
        self._held += text
        begun = self._held.lstrip()
        if not begun or begun[0] in "{[":
            return Part()
        self._inside = True  # it is text, and stays so
        shown, self._held = self._held, ""
        return Part(shown)

    def _push_tagged(self, text: str) -> Part:
        shown: list[str] = []
        calls: list[ToolCall] = []
        rest = text
        while True:
            if self._inside:
                self._held += rest
                inner, closed, rest = self._held.partition(CLOSING)
                if not closed:
                    break
                part = _calls_or_text(inner, otherwise=OPENING + inner + CLOSING)
                shown.append(part.text)
                calls += part.calls
                self._held, self._inside, self._opening = "", False, StopMatcher([OPENING])
            before = self._opening.push(rest)
            shown.append(before)
            if not self._opening.stopped:
                break
            rest = self._opening.after
            self._inside = True
        return Part("".join(shown), tuple(calls))


def _calls_or_text(text: str, *, otherwise: str) -> Part:
    """The calls that `text` consists of; `otherwise` as text where it is no call."""
    calls = _calls(text)
    return Part(calls=calls) if calls else Part(otherwise)


def _calls(text: str) -> tuple[ToolCall, ...]:
    try:
        found = json.loads(text)
    except ValueError:
        return ()
    each = found if isinstance(found, list) else [found]
    calls = [_call(one) for one in each]
    return tuple(call for call in calls if call is not None) if all(calls) else ()


def _call(found: Any) -> ToolCall | None:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    arguments = found.get("arguments", found.get("parameters"))
    if isinstance(arguments, str) and _is_object(arguments):
        return ToolCall(found["name"], arguments)
    return ToolCall(found["name"], json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def calls_schema(tools: Sequence[tuple[str, dict[str, Any]]], *, several: bool) -> dict[str, Any]:
    """The JSON Schema of one or more calls of `tools`, each a name and the schema of its arguments."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": {"type": "object", **parameters}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, parameters in tools
    ]
    schema: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": calls}}
    return schema if several else schema | {"maxItems": 1}
