"""What requests to models that answer in one step have in common."""

from typing import Annotated, Any

from pydantic import BaseModel, PlainValidator

from modelyard_serving.tasks.text_inputs import TextInput

MAX_INPUTS = 2048
"""As at OpenAI."""


class GivenInputs(BaseModel):
    """One input, `alone`, or a list of them."""

    all: tuple[TextInput, ...]
    alone: bool


class ReadTokens(BaseModel):
    """Usage of a request that makes no tokens."""

    prompt_tokens: int
    total_tokens: int


def read_tokens(count: int) -> ReadTokens:
    """The usage of a request whose inputs had so many tokens."""
    return ReadTokens(prompt_tokens=count, total_tokens=count)


def _read_inputs(value: Any) -> GivenInputs:
    if isinstance(value, str) or _are_tokens(value):
        return GivenInputs(all=(value,), alone=True)
    texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
    if not texts and not (isinstance(value, list) and all(text == [] or _are_tokens(text) for text in value)):
        raise ValueError("must be a text, a list of texts, a list of tokens, or a list of such lists")
    if not 1 <= len(value) <= MAX_INPUTS:
        raise ValueError(f"has {len(value)} inputs: from 1 to {MAX_INPUTS} go in one request")
    return GivenInputs(all=tuple(value), alone=False)


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


Inputs = Annotated[GivenInputs, PlainValidator(_read_inputs)]
"""The field `input`."""
