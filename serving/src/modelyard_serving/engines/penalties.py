"""What moves single logits, by what was said before or by the user's wish; each a function of a row of logits."""

import math
from collections.abc import Sequence

import torch


def repetition(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """Make `seen` tokens (a row of booleans) less likely, if `penalty` is above 1 (Keskar et al., 2019)."""
    punished = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, punished, logits)


def frequency_and_presence(
    logits: torch.Tensor, counts: torch.Tensor, *, frequency: float, presence: float
) -> torch.Tensor:
    """OpenAI's two penalties, by how often the answer has each token."""
    return logits - counts * frequency - (counts > 0) * presence


def bias(logits: torch.Tensor, tokens: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Add the values to the logits of these tokens."""
    return logits.index_add(-1, tokens, values)


def forbid(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Make these tokens impossible."""
    return logits.index_fill(-1, tokens, -math.inf)


class History:
    """The tokens that one answer has met, a place for each token of the vocabulary."""

    def __init__(self, prompt: Sequence[int], size: int, device: torch.device) -> None:
        self.seen = torch.zeros(size, dtype=torch.bool, device=device)
        """In prompt or answer."""
        self.counts = torch.zeros(size, device=device)
        """How often in the answer."""
        self.seen[torch.tensor(prompt, dtype=torch.long, device=device)] = True

    def add(self, token: int) -> None:
        """The answer goes on with `token`."""
        self.seen[token] = True
        self.counts[token] += 1
