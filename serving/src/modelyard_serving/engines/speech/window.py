"""What goes into the speech engine and what comes out: one window of sound at a time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SpeechTokens:
    """What a folder's generation_config.json says of the tokens."""

    start: int
    end: int
    """Every token from this one on is no text."""
    previous: int | None
    """Comes before a prompt; None: the model takes none."""
    no_timestamps: int
    """The last one before those that are points of time, of 0.02 s each from the window's begin."""
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    last_first_timestamp: int | None = None
    """A window's first point of time is at most this one, counted from the begin; None: any."""

    @property
    def no_speech(self) -> int:
        """How likely it is where the text begins tells whether somebody speaks."""
        return self.no_timestamps - 1

    @property
    def timestamps(self) -> int:
        """The first point of time: the begin of the window."""
        return self.no_timestamps + 1


@dataclass(frozen=True, eq=False)
class Window:
    """Up to 30 s of sound to be written down."""

    features: "torch.Tensor"
    """Float32 (mel bands, frames of 10 ms), at most as many frames as the model takes; the rest counts as 0."""
    prompt: tuple[int, ...]
    """The tokens before the first one that is made; has the start token."""
    temperature: float = 0.0
    """0 takes the likeliest token, else the logits are divided by it and a token is drawn."""
    max_tokens: int | None = None
    """Fewer than the model's own limit."""
    languages: tuple[int, ...] = ()
    """If there are any, all that is asked for is which of these tokens comes after the start token."""


@dataclass(frozen=True)
class Heard:
    """The tokens of a window without the end token."""

    tokens: tuple[int, ...]
    logprob: float
    """The mean natural logarithmic probability of the tokens, the end token included, after suppression."""
    no_speech: float
    """The probability that nobody speaks."""
