"""What a text engine is to the rest of the replica.

`submit` answers at once or raises; tokens come through the returned `Generation`. Everything that an engine with
continuous batching needs is here, so that one takes the place of another without a change elsewhere.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from modelyard_serving.contract import EngineConfig

if TYPE_CHECKING:
    import torch


class FinishReason(StrEnum):
    """Why a generation ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults change nothing.

    Penalties and bias work on the logits, in the order of the fields; then temperature and truncation. Temperature 0
    takes the likeliest of what penalties and bias leave; the same seed gives the same tokens.
    """

    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of every token in prompt or answer."""
    frequency_penalty: float = 0.0
    """Is taken off a token's logit once for each time that the answer has it."""
    presence_penalty: float = 0.0
    """Is taken off the logit of every token that the answer has."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Tokens and what is added to their logits."""
    temperature: float = 1.0
    top_k: int = 0
    """Only so many of the likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Only the fewest likeliest tokens that together have this probability."""
    min_p: float = 0.0
    """Only tokens with at least this share of the likeliest token's probability."""
    seed: int | None = None


@dataclass(frozen=True)
class Ending:
    """What ends an answer before its limit."""

    min_tokens: int = 0
    """So many tokens come before any that ends the answer."""
    ignore_eos: bool = False
    """The model's own end tokens are tokens like others."""
    stop_tokens: frozenset[int] = frozenset()
    """These end the answer as well."""


class ConstraintState(Protocol):
    """What one choice may still become."""

    def restrict(self, logits: "torch.Tensor") -> "torch.Tensor":
        """One row of float32 logits with minus infinity for each token that may not come next."""

    def push(self, token: int) -> None:
        """The token that was chosen."""


class Constraint(Protocol):
    """What answers must look like."""

    def begin(self) -> ConstraintState:
        """The state before a choice's first token."""


@dataclass(frozen=True)
class GenerationRequest:
    """A prompt and how to go on from it."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    ending: Ending = Ending()
    constraint: Constraint | None = None
    choices: int = 1
    """So many answers, each with random numbers of its own; they take up as many places."""
    logprobs: int | None = None
    """With each token come its logarithmic probability and those of so many likeliest; None: no probabilities.

    They are the model's own, before penalties, bias, temperature and truncation."""
    urgent: bool = False
    """Runs at once beside the others, however full the queue is: a proof of health must not wait behind users."""


@dataclass(frozen=True)
class Logprobs:
    """A token's natural logarithmic probability, and the likeliest tokens of its place with theirs, best first."""

    chosen: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class TokenEvent:
    """One generated token; the last one of a choice says why it is the last."""

    token: int
    finish: FinishReason | None = None
    choice: int = 0
    logprobs: Logprobs | None = None


@dataclass(frozen=True)
class EngineStats:
    """What the engine has on its hands now."""

    running: int
    queued: int
    batches: int = 0
    """Batches computed so far, where the engine computes in batches."""
    batch_items: int = 0
    """Items in all of them."""
    prompt_tokens: int = 0
    """Tokens of prompts whose beginnings the engine has looked for among those that it keeps."""
    known_tokens: int = 0
    """How many of them it had, and did not compute again."""


class QueueFull(Exception):
    """The engine takes no more requests now."""


class EngineFailed(Exception):
    """The engine could not do the request, or cannot do any."""


class Generation(Protocol):
    """The tokens of one request as they come, those of its choices in any order."""

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        """The events until each choice has one with a finish or is cancelled; raises `EngineFailed`."""

    def cancel(self, choice: int | None = None) -> None:
        """Give a choice's place back, or all; no event comes any more. Harmless after the end and when called twice."""


class Engine(Protocol):
    """Works on many generations at once."""

    @property
    def name(self) -> str:
        """What operators call it."""

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""

    @property
    def end_tokens(self) -> frozenset[int]:
        """The model's own tokens that end an answer."""

    def submit(self, request: GenerationRequest) -> Generation:
        """Take on a request of the running event loop.

        Raises:
            QueueFull: there are not places for all of its choices.
            EngineFailed: the engine is broken.
        """

    def stats(self) -> EngineStats:
        """What it has on its hands now."""

    def check(self) -> None:
        """Raise `EngineFailed` when the engine makes no progress any more."""

    def resize(self, config: EngineConfig) -> None:
        """Obey new limits from now on; what runs goes on."""

    def close(self) -> None:
        """Fail what is left and stop; may wait for the step in progress."""
