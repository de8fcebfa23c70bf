"""Texts to tokens for models that answer in one step, with every limit told by the field that breaks it."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from modelyard_serving.tasks.invalid import InvalidInput

TextInput = str | tuple[int, ...]
"""A text, or its tokens as they are."""

MAX_TOTAL_TOKENS = 300_000
"""Tokens of all inputs of one request, as at OpenAI."""


class TextInputs:
    """Tokenizes in threads, one request at a time: tokenizers are not made for many threads."""

    def __init__(self, tokenizer: Any, *, max_tokens: int, prefix: str = "", lower_case: bool = False) -> None:
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._lower_case = lower_case
        self._lock = threading.Lock()

    async def tokenize(self, inputs: Sequence[TextInput], *, field: str, alone: bool = False) -> list[list[int]]:
        """The tokens of each input; texts get the special tokens that the model expects, tokens are left alone.

        `alone` tells that the request has one input instead of a list: messages then name no place in it.

        Raises:
            InvalidInput: an input is empty, too long, or no token of the model, or all together are too many.
        """
        names = [field if alone else f"{field}.{place}" for place in range(len(inputs))]
        empty = next((name for name, text in zip(names, inputs, strict=True) if not text), None)
        if empty is not None:
            raise InvalidInput(empty, "must not be empty")
        rows = await asyncio.to_thread(self._tokenize, inputs)
        for name, given, row in zip(names, inputs, rows, strict=True):
            self._check(name, given, row)
        total = sum(map(len, rows))
        if total > MAX_TOTAL_TOKENS:
            message = f"all inputs have {total} tokens, {total - MAX_TOTAL_TOKENS} too many; send fewer in one request"
            raise InvalidInput(field, message, code="too_many_tokens")
        return rows

    async def pair(self, first: str, second: Sequence[str], limit: int) -> list[dict[str, list[int]]]:
        """`first` with each of `second`, which are cut so that no pair has more than `limit` tokens."""
        return await asyncio.to_thread(self._pair, first, second, limit)

    def length(self, text: str) -> int:
        """Tokens of a text without special ones; blocks."""
        with self._lock:
            return len(self._tokenizer.encode(text, add_special_tokens=False))

    @property
    def pair_tokens(self) -> int:
        """Special tokens of a pair."""
        count: int = self._tokenizer.num_special_tokens_to_add(pair=True)
        return count

    def _check(self, name: str, given: TextInput, row: list[int]) -> None:
        if len(row) > self.max_tokens:
            message = f"has {len(row)} tokens, {len(row) - self.max_tokens} too many: the model reads {self.max_tokens}"
            raise InvalidInput(name, message, code="context_length_exceeded")
        size = len(self._tokenizer)
        unknown = None if isinstance(given, str) else next((token for token in row if not 0 <= token < size), None)
        if unknown is not None:
            raise InvalidInput(name, f"{unknown} is no token: the model has 0 to {size - 1}")

    def _tokenize(self, inputs: Sequence[TextInput]) -> list[list[int]]:
        texts = [self._prefix + text for text in inputs if isinstance(text, str)]
        if self._lower_case:
            texts = [text.lower() for text in texts]
        rows: list[list[int]] = []
        if texts:
            with self._lock:
                rows = self._tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
        tokenized = iter(rows)
        return [next(tokenized) if isinstance(given, str) else list(given) for given in inputs]

    def _pair(self, first: str, second: Sequence[str], limit: int) -> list[dict[str, list[int]]]:
        with self._lock:
            pairs = self._tokenizer(
                [first] * len(second), list(second), truncation="only_second", max_length=limit,
                return_attention_mask=False,
            )  # fmt: skip
        return [{name: rows[place] for name, rows in pairs.items()} for place in range(len(second))]
