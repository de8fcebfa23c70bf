"""Answers of a form: JSON of a schema, text of a regular expression, one of several texts.

llguidance says at each step which tokens may come. vLLM, SGLang and llama.cpp offer it as well; it begins a grammar
within a millisecond where others prepare for seconds, and refuses by name what it cannot hold.
"""

from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from llguidance import LLMatcher, LLTokenizer, grammar_from
from llguidance.hf import from_tokenizer

from modelyard_serving.tasks.form import AnswerForm, FormKind, InvalidForm

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

KEPT = 64
"""Grammars that are kept for the next request with the same form."""

_AS_JSON_DUMPS: "JsonCompileOptions" = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON is written as Python's `json.dumps` does: a small model that may write any whitespace writes nothing else."""


class Grammar:
    """A form with a model's tokens; any number of answers begin from it."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def begin(self) -> "GrammarState":
        """The state before an answer's first token."""
        return GrammarState(self._matcher.deep_copy())


class GrammarState:
    """How far one answer has come."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def restrict(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` (float32, one for each token) with minus infinity for what may not come next.

        Where the answer is complete an end token may come; where nothing else may, it must.
        """
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8) != 0
        self._check()
        allowed = allowed.to(logits.device)
        restricted = torch.full_like(logits, -torch.inf)
        known = min(len(allowed), len(logits))
        restricted[:known] = torch.where(allowed[:known], logits[:known], restricted[:known])
        return restricted

    def push(self, token: int) -> None:
        """The token that was chosen."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InvalidForm(_first_part(self._matcher.get_error()))


class Grammars:
    """Makes grammars for one model's tokens."""

    def __init__(self, tokenizer: Any, end_tokens: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._end_tokens = end_tokens
        self._prepared: LLTokenizer | None = None
        self._preparing = Lock()
        self._grammar = lru_cache(KEPT)(self._make)

    def grammar(self, form: AnswerForm) -> Grammar:
        """The grammar of a form; the first one takes half a second, others a millisecond. Called in any thread.

        Raises:
            InvalidForm: the form is none, or asks for what cannot be held.
        """
        return self._grammar(form.kind, form.text)

    def _make(self, kind: FormKind, text: str) -> Grammar:
        matcher = LLMatcher(self._tokens(), _definition(kind, text), log_level=0)
        if matcher.is_error():
            raise InvalidForm(_first_part(matcher.get_error()))
        return Grammar(matcher)

    def _tokens(self) -> LLTokenizer:
        with self._preparing:
            if self._prepared is None:
                try:
                    self._prepared = from_tokenizer(self._tokenizer, eos_token=sorted(self._end_tokens) or None)
                except ValueError as error:
                    raise InvalidForm(f"this model's tokenizer cannot be held to a form: {error}") from error
            return self._prepared


def _definition(kind: FormKind, text: str) -> str:
    if kind == "json_schema":
        return LLMatcher.grammar_from_json_schema(text, _AS_JSON_DUMPS)
    return grammar_from(kind, text)


def _first_part(message: str) -> str:
    """The library's message without its excerpt of a grammar that no user wrote."""
    return message.split("\n   1 | ")[0].split("\n<state>")[0].strip()
