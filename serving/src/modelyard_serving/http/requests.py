"""OpenAI's requests, as far as this server does what they ask.

A field that would have no effect is refused by name, unless its value asks for nothing (null, n=1, a penalty of 0).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from modelyard_serving.engines.protocol import Ending, Sampling
from modelyard_serving.http.body import ModelRequest, StrictRequest
from modelyard_serving.http.forms import ResponseFormat, StructuredOutputs
from modelyard_serving.http.tools import EarlierCall, Tool, ToolChoice, ToolUse
from modelyard_serving.tasks.form import AnswerForm

Stop = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


def _one_is_a_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _text_is_a_part(value: Any) -> Any:
    return ({"type": "text", "text": value},) if isinstance(value, str) else value


def _text_or_tokens(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(type(token) is int for token in value):
        return tuple(value)
    raise ValueError("must be a text or a list of tokens; send one request for each prompt")


class StreamOptions(StrictRequest):
    """What a stream carries beside the text."""

    include_usage: bool = False


class _Generation(ModelRequest):
    """What both kinds of request have."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_k: int = Field(default=0, ge=-1, description="0 and -1: all tokens.")
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=100)
    logit_bias: dict[int, Bias] = Field(default={}, max_length=1024)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[tuple[Stop, ...], BeforeValidator(_one_is_a_list)] = Field(default=(), max_length=4)
    stop_token_ids: tuple[int, ...] = Field(default=(), max_length=128)
    min_tokens: int = Field(default=0, ge=0)
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: str | None = Field(default=None, max_length=200, description="Written to the request log.")
    n: int = Field(default=1, ge=1, le=8)
    response_format: ResponseFormat = ResponseFormat(type="text")
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.structured_outputs is not None and self.response_format.form() is not None:
            raise ValueError("response_format and structured_outputs both give the answer a form; set one of them")
        return self

    def form(self) -> AnswerForm | None:
        """What the answer must look like; None: any text."""
        return self.response_format.form() if self.structured_outputs is None else self.structured_outputs.form()

    def sampling(self) -> Sampling:
        """How the request wants its tokens chosen."""
        return Sampling(
            repetition_penalty=self.repetition_penalty, frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty, logit_bias=tuple(self.logit_bias.items()),
            temperature=self.temperature, top_k=max(self.top_k, 0), top_p=self.top_p, min_p=self.min_p, seed=self.seed,
        )  # fmt: skip

    def ending(self) -> Ending:
        """What ends the request's answer, beside strings."""
        return Ending(self.min_tokens, self.ignore_eos, frozenset(self.stop_token_ids))


class TextPart(StrictRequest):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(StrictRequest):
    """One turn of a conversation; a tool's turn is the result of a call."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[tuple[TextPart, ...], BeforeValidator(_text_is_a_part)] = ()
    tool_calls: tuple[EarlierCall, ...] = ()
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls: only an assistant's turn has calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("tool_call_id: a tool's turn needs it, and no other has it")
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise ValueError("content: Field required")
        return self

    def plain(self) -> dict[str, Any]:
        """As chat templates take it; they know no developer, whose turn is a system's."""
        text = "".join(part.text for part in self.content)
        turn: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        if self.tool_calls:
            turn["tool_calls"] = [call.plain() for call in self.tool_calls]
        return turn if self.tool_call_id is None else turn | {"tool_call_id": self.tool_call_id}


class ChatRequest(_Generation):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    tools: tuple[Tool, ...] = Field(default=(), max_length=128)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True

    @field_validator("top_logprobs")
    @classmethod
    def _top_of_something(cls, value: int, info: ValidationInfo) -> int:
        if value and not info.data.get("logprobs", True):
            raise ValueError("needs logprobs: true")
        return value

    def wanted_logprobs(self) -> int | None:
        """With how many likeliest tokens log-probabilities are wanted; None: not at all."""
        return self.top_logprobs if self.logprobs else None

    def tool_use(self) -> ToolUse | None:
        """The tools that the answer may call; None: no tools."""
        return ToolUse.of(self.tools, self.tool_choice, several=self.parallel_tool_calls)

    def form(self) -> AnswerForm | None:
        """Calls that are demanded have a form as well."""
        use = self.tool_use()
        return super().form() or (None if use is None else use.form())

    @model_validator(mode="after")
    def _tools_fit(self) -> Self:
        use = self.tool_use()
        if use is not None and use.form() is not None and super().form() is not None:
            raise ValueError("tool_choice demands a call, which has a form of its own; leave the other form out")
        return self

    @model_validator(mode="after")
    def _one_limit(self) -> "ChatRequest":
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens mean the same; set one of them")
        return self


class CompletionRequest(_Generation):
    """POST /v1/completions, for one prompt, as text or as tokens."""

    prompt: Annotated[str | tuple[int, ...], PlainValidator(_text_or_tokens)]
    max_tokens: int = Field(default=16, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=5)

    def wanted_logprobs(self) -> int | None:
        """As in a chat."""
        return self.logprobs
