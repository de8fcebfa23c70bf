"""Matrix factorisation: a point for each user and each item, near each other where one had the other."""

import torch
from torch import nn


class Factors(nn.Module):
    """Scores of all items for users that are known."""

    def __init__(self, users: torch.Tensor, items: torch.Tensor) -> None:
        super().__init__()
        self.users = nn.Parameter(users.contiguous(), requires_grad=False)
        self.items = nn.Parameter(items.contiguous(), requires_grad=False)

    def forward(self, user: torch.Tensor) -> dict[str, torch.Tensor]:
        """From places of users, int64 (batch), to float32 (batch, items)."""
        return {"scores": self.users[user] @ self.items.T}


def factorise(
    had: torch.Tensor, *, factors: int = 8, weight: float = 4.0, shrink: float = 8.0, rounds: int = 12
) -> Factors:
    """Alternating least squares for implicit feedback (Hu, Koren, Volinsky 2008, doi:10.1109/ICDM.2008.22).

    What was not had counts as a weak no: a 0 with confidence 1, against 1 + `weight` for what was.
    """
    items = torch.randn(had.shape[1], factors) / factors
    for _ in range(rounds):
        users = _solve(had, items, weight, shrink)
        items = _solve(had.T, users, weight, shrink)
    return Factors(users, items)


def _solve(had: torch.Tensor, fixed: torch.Tensor, weight: float, shrink: float) -> torch.Tensor:
    """The points of the rows of `had`, those of its columns being `fixed`: one small linear system for each."""
    size = fixed.shape[1]
    products = (fixed[:, :, None] * fixed[:, None, :]).flatten(1)
    weighted = weight * (had @ products).reshape(-1, size, size)
    system = fixed.T @ fixed + weighted + shrink * torch.eye(size)
    solved: torch.Tensor = torch.linalg.solve(system, (1 + weight) * had @ fixed)
    return solved
