"""Choosing the next token."""

import torch

from modelyard_serving.engines.protocol import Sampling


class Sampler:
    """Chooses the tokens of one generation; its random numbers are its own, whatever else runs."""

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self._sampling = sampling
        self._random = torch.Generator(device)
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def choose(self, logits: torch.Tensor) -> int:
        """The next token from one row of float32 logits."""
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        scores = torch.softmax(logits / self._sampling.temperature, dim=-1)
        if self._sampling.top_p < 1:
            scores = nucleus(scores, self._sampling.top_p)
        return int(torch.multinomial(scores, 1, generator=self._random))


def nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the fewest likeliest tokens that together reach `top_p` (Holtzman et al., 2020); at least one."""
    ordered, order = scores.sort(descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    return scores.scatter(-1, order[before >= top_p], 0.0)
