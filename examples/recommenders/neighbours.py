"""Nearest neighbours: items are near where the same users had them; knows nobody, needs only what somebody has had."""

import torch
from torch import nn


class Neighbours(nn.Module):
    """Scores of all items by how near they are to those that are given."""

    def __init__(self, nearness: torch.Tensor) -> None:
        """`nearness` is float32 (items, items), 0 for those that are no neighbours."""
        super().__init__()
        # One row more, of zeros: the place after the last item fills short lists up.
        self.nearness = nn.Parameter(torch.cat([nearness, torch.zeros(1, len(nearness))]), requires_grad=False)

    def forward(self, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """From places of items, int64 (batch, history), to float32 (batch, items); -inf for who is no neighbour."""
        scores = self.nearness[items].sum(1)
        return {"scores": scores.where(scores > 0, -torch.inf)}


def find_neighbours(had: torch.Tensor, *, count: int = 100) -> Neighbours:
    """The `count` nearest of each item by the cosine of who had them."""
    together = had.T @ had
    norms = together.diagonal().sqrt().clamp(min=1)
    nearness = together / (norms[:, None] * norms[None, :])
    nearness.fill_diagonal_(0)
    least = nearness.topk(count, dim=1).values[:, -1:]
    return Neighbours(nearness.where(nearness >= least, 0.0))
