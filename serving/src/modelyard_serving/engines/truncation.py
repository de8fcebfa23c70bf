"""What takes unlikely tokens out of a row of logits, as transformers does it; the likeliest always stays."""

import math

import torch


def top_k(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Keep the `count` likeliest tokens, and those as likely as the last of them."""
    last = logits.topk(min(count, logits.shape[-1])).values[-1]
    return logits.masked_fill(logits < last, -math.inf)


def top_p(logits: torch.Tensor, share: float) -> torch.Tensor:
    """Keep the fewest likeliest tokens that together reach `share` (Holtzman et al., 2020)."""
    ordered, order = logits.sort()
    drop = torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= 1 - share
    drop[-1] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), -math.inf)


def min_p(logits: torch.Tensor, share: float) -> torch.Tensor:
    """Keep tokens with at least `share` of the likeliest token's probability (Nguyen et al., 2024)."""
    scores = torch.softmax(logits, dim=-1)
    return logits.masked_fill(scores < share * scores.max(), -math.inf)
