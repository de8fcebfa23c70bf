"""Choosing the next token."""

from hashlib import blake2b

import torch

from modelyard_serving.engines import penalties, truncation
from modelyard_serving.engines.protocol import GenerationRequest, Sampling

GREEDY_BELOW = 1e-5
"""Logits divided by less leave what float32 can tell apart."""


class Sampler:
    """Chooses the tokens of one choice; its random numbers and its memory are its own, whatever else runs."""

    def __init__(
        self, request: GenerationRequest, *, ends: frozenset[int], device: torch.device, choice: int = 0
    ) -> None:
        self._prompt = request.prompt
        self._sampling = request.sampling
        self._min_tokens = request.ending.min_tokens
        self._ends = torch.tensor(sorted(ends), dtype=torch.long, device=device)
        bias = dict(request.sampling.logit_bias)
        self._biased = torch.tensor(list(bias), dtype=torch.long, device=device)
        self._biases = torch.tensor(list(bias.values()), dtype=torch.float32, device=device)
        self._history: penalties.History | None = None
        self._made = 0
        self._constraint = None if request.constraint is None else request.constraint.begin()
        self._random = torch.Generator(device)
        if request.sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(choice_seed(request.sampling.seed, choice))

    def choose(self, logits: torch.Tensor) -> int:
        """The next token from one row of float32 logits, which stays as it is."""
        logits = self._adjusted(logits)
        if self._sampling.temperature < GREEDY_BELOW:
            token = int(logits.argmax())
        else:
            scores = torch.softmax(_truncated(logits / self._sampling.temperature, self._sampling), dim=-1)
            token = int(torch.multinomial(scores, 1, generator=self._random))
        return self.take(token)

    @property
    def takes_best(self) -> bool:
        """Whether the next token is the one with the highest logit, whatever the logits are."""
        sampling = self._sampling
        plain = not (_remembers(sampling) or sampling.logit_bias or self._constraint)
        ends_may_come = self._made >= self._min_tokens or not len(self._ends)
        return plain and ends_may_come and sampling.temperature < GREEDY_BELOW

    def take(self, token: int) -> int:
        """Go on with `token`, which is returned."""
        self._made += 1
        if self._history is not None:
            self._history.add(token)
        if self._constraint is not None:
            self._constraint.push(token)
        return token

    def _adjusted(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits after penalties, bias and what may not come yet."""
        sampling = self._sampling
        if _remembers(sampling) and self._history is None:
            self._history = penalties.History(self._prompt, logits.shape[-1], logits.device)
        if self._history is not None:
            logits = penalties.repetition(logits, self._history.seen, sampling.repetition_penalty)
            logits = penalties.frequency_and_presence(
                logits, self._history.counts, frequency=sampling.frequency_penalty, presence=sampling.presence_penalty
            )
        if sampling.logit_bias:
            logits = penalties.bias(logits, self._biased, self._biases)
        if self._made < self._min_tokens:
            logits = penalties.forbid(logits, self._ends)
        if self._constraint is not None:
            logits = self._constraint.restrict(logits)
        return logits


def choice_seed(seed: int, choice: int) -> int:
    """The first choice has the request's seed, so that it is the answer to the same request for one choice.

    The others' are no seeds that users write: seed 2 alone is not the second choice of seed 1.
    """
    if choice == 0:
        return seed
    return int.from_bytes(blake2b(f"{seed}/{choice}".encode(), digest_size=8).digest())


def _remembers(sampling: Sampling) -> bool:
    return (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty) != (1, 0, 0)


def _truncated(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if sampling.top_k > 0:
        logits = truncation.top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = truncation.top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        logits = truncation.min_p(logits, sampling.min_p)
    return logits
