"""Which token may come next in what Whisper writes down, and which one does.

The rules are Whisper's own (https://github.com/openai/whisper, whisper/decoding.py: SuppressBlank, SuppressTokens,
ApplyTimestampRules): points of time come in pairs, never go back, and come where they are likelier than any text.
"""

import math
from collections.abc import Sequence

import torch

from modelyard_serving.engines.speech.window import SpeechTokens


class TokenRules:
    """Chooses the next token of each row of a batch."""

    def __init__(self, tokens: SpeechTokens, vocabulary: int, device: torch.device) -> None:
        self._tokens = tokens
        self._never = torch.zeros(vocabulary, device=device)
        self._never[[*tokens.suppressed, tokens.no_timestamps]] = -math.inf
        self._first = self._never.clone()
        self._first[: tokens.timestamps] = -math.inf
        self._first[list(tokens.suppressed_first)] = -math.inf
        if tokens.last_first_timestamp is not None:
            self._first[tokens.timestamps + tokens.last_first_timestamp + 1 :] = -math.inf

    def choose(
        self, logits: torch.Tensor, made: Sequence[Sequence[int]], temperatures: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """The next token of each row of float32 `logits` and its logarithmic probability; `made` has those before."""
        begin = self._tokens.timestamps
        if made[0]:
            scores = logits + self._never
            for row, before in enumerate(made):
                self._restrict(scores[row], before)
        else:
            scores = logits + self._first
        times = scores[:, begin:].logsumexp(-1)
        text = scores[:, :begin]
        is_time = times > text.amax(-1)
        text.masked_fill_(is_time.unsqueeze(-1), -math.inf)
        total = torch.logaddexp(times, text.logsumexp(-1))
        chosen = scores.argmax(-1)
        for row, temperature in enumerate(temperatures):
            if temperature > 0:
                chosen[row] = torch.multinomial((scores[row] / temperature).softmax(-1), 1)[0]
        logprobs = scores.gather(-1, chosen.unsqueeze(-1)).squeeze(-1) - total
        return chosen.tolist(), logprobs.tolist()

    def _restrict(self, scores: torch.Tensor, before: Sequence[int]) -> None:
        begin = self._tokens.timestamps
        last_is_time = before[-1] >= begin
        paired = len(before) < 2 or before[-2] >= begin
        if last_is_time and paired:
            scores[begin:] = -math.inf
        elif last_is_time:
            scores[: self._tokens.end] = -math.inf
        latest = next((token for token in reversed(before) if token >= begin), None)
        if latest is not None:
            # The end of a piece may be the begin of the next; otherwise no point of time comes twice.
            scores[begin : latest + (0 if last_is_time and not paired else 1)] = -math.inf
