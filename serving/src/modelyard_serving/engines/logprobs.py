"""The model's own probabilities of a place."""

import torch

from modelyard_serving.engines.protocol import Logprobs

LEAST = -9999.0
"""OpenAI's number for what is as good as impossible; JSON has no infinity."""


def logprobs(logits: torch.Tensor, token: int, count: int) -> Logprobs:
    """That of `token` and those of the `count` likeliest, from the row of logits as the model gave it."""
    scores = torch.log_softmax(logits, dim=-1).clamp(min=LEAST)
    top = scores.topk(min(count, scores.shape[-1]))
    return Logprobs(float(scores[token]), tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)))
