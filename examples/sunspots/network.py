"""An LSTM that reads years and foretells the next ones."""

import torch
from torch import nn

SCALE = 6.0
"""About the spread of the square roots, in which high and low cycles differ by about as much."""


class Forecaster(nn.Module):
    """Takes and gives numbers of sunspots as they are."""

    def __init__(self, ahead: int, width: int = 32) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, width, batch_first=True)
        self.foretell = nn.Linear(width, ahead)

    def forward(self, past: torch.Tensor) -> dict[str, torch.Tensor]:
        """From numbers of sunspots, float32 (batch, years), to those of the next years, float32 (batch, ahead)."""
        read, _ = self.lstm(past.clamp(min=0).sqrt().unsqueeze(-1) / SCALE)
        roots = self.foretell(read[:, -1]) * SCALE
        return {"ahead": nn.functional.softplus(roots).square()}
