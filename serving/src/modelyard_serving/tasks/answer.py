"""An answer on its way from the engine's tokens to text."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from modelyard_serving.engines.protocol import (
    Constraint,
    Ending,
    FinishReason,
    Generation,
    Logprobs,
    Sampling,
    TokenEvent,
)
from modelyard_serving.tasks.text import StopMatcher, TokenDecoder
from modelyard_serving.tasks.vocabulary import Vocabulary


@dataclass(frozen=True)
class TextRequest:
    """How to answer a prompt of tokens. `max_tokens` None: until the context is full."""

    prompt: tuple[int, ...]
    max_tokens: int | None
    max_tokens_field: str
    prompt_field: str
    sampling: Sampling
    ending: Ending
    stops: tuple[str, ...] = ()
    constraint: Constraint | None = None
    choices: int = 1
    logprobs: int | None = None
    timeout_s: float = 3600.0


@dataclass(frozen=True)
class SpelledToken:
    """A token's bytes with its logarithmic probability."""

    spelled: bytes
    logprob: float


@dataclass(frozen=True)
class ScoredToken:
    """A token of the text, the likeliest tokens of its place, and the characters of the text before it."""

    chosen: SpelledToken
    top: tuple[SpelledToken, ...]
    offset: int


@dataclass(frozen=True)
class TextPiece:
    """New text of a choice, with the number of tokens made so far for all; a choice's last one says why it is that.

    `scored` has the tokens that begin in the text, where log-probabilities are asked for.
    """

    text: str
    tokens: int
    finish: FinishReason | None = None
    choice: int = 0
    scored: tuple[ScoredToken, ...] = ()


class TextAnswer:
    """The choices of one answer on their way. Whoever has it must `cancel` it in the end, however it ended."""

    def __init__(self, request: TextRequest, generation: Generation, choices: list["ChoiceText"]) -> None:
        self._generation = generation
        self._choices = choices
        self._deadline = asyncio.get_running_loop().time() + request.timeout_s

    async def __aiter__(self) -> AsyncIterator[TextPiece]:
        """The pieces; raises `TimeoutError` at the deadline and what the engine raises."""
        events = aiter(self._generation)
        made, going = 0, len(self._choices)
        while going:
            async with asyncio.timeout_at(self._deadline):
                event = await anext(events)
            made += 1
            choice = self._choices[event.choice]
            text, scored = choice.push(event)
            if choice.finish is not None:
                going -= 1
                self._generation.cancel(event.choice)
            if text or choice.finish is not None:
                yield TextPiece(text, made, choice.finish, event.choice, scored)

    def cancel(self) -> None:
        self._generation.cancel()


class ChoiceText:
    """One choice's text out of its tokens."""

    def __init__(self, request: TextRequest, decoder: TokenDecoder, vocabulary: Vocabulary) -> None:
        self.finish: FinishReason | None = None
        self._decoder = decoder
        self._vocabulary = vocabulary
        self._stops = StopMatcher(request.stops)
        self._min_tokens = request.ending.min_tokens
        self._made = 0
        self._decoded = 0
        self._shown = 0
        self._scored: list[ScoredToken] = []

    def push(self, event: TokenEvent) -> tuple[str, tuple[ScoredToken, ...]]:
        """The text that may be shown now and the tokens that begin in it."""
        self._made += 1
        text = ""
        if event.finish is not FinishReason.STOP:  # a token that ends the answer stands for no text
            if event.logprobs is not None:
                self._scored.append(self._score(event.token, event.logprobs))
            text = self._decoder.push(event.token)
        if event.finish is not None:
            text += self._decoder.finish()
        self._decoded += len(text)
        # Text that must come is not searched: a stop string may not end it.
        text = self._stops.push(text) if self._made > self._min_tokens else text
        if event.finish is not None:
            text += self._stops.finish()
        self.finish = FinishReason.STOP if self._stops.stopped else event.finish
        self._shown += len(text)
        return text, self._take_scored()

    def _score(self, token: int, logprobs: Logprobs) -> ScoredToken:
        spell = self._vocabulary.spell
        top = tuple(SpelledToken(spell(other), logprob) for other, logprob in logprobs.top)
        return ScoredToken(SpelledToken(spell(token), logprobs.chosen), top, self._decoded)

    def _take_scored(self) -> tuple[ScoredToken, ...]:
        """The tokens whose text is shown; at an end without stop string also those that stand for no text."""
        rest = self.finish is not None and not self._stops.stopped
        ready = tuple(token for token in self._scored if rest or token.offset < self._shown)
        del self._scored[: len(ready)]
        return ready
