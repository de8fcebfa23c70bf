"""Recurrent networks that read bytes."""

import torch
from torch import nn

WIDTH = 96


class Reader(nn.Module):
    """Reads byte after byte and judges by the mean of what it thought on the way."""

    def __init__(self, recurrent: nn.Module, languages: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, 32)
        self.recurrent = recurrent
        self.judge = nn.Linear(WIDTH, languages)

    def forward(self, text: torch.Tensor) -> dict[str, torch.Tensor]:
        """From UTF-8, uint8 (batch, length) filled up with 0, to scores, float32 (batch, languages)."""
        thoughts, _ = self.recurrent(self.embedding(text.long()))
        there = (text != 0).unsqueeze(-1).float()
        mean = (thoughts * there).sum(1) / there.sum(1).clamp(min=1)
        return {"logits": self.judge(mean)}


def plain(languages: int) -> Reader:
    """A plain recurrent network (Elman)."""
    return Reader(nn.RNN(32, WIDTH, batch_first=True), languages)


def lstm(languages: int) -> Reader:
    """A long short-term memory."""
    return Reader(nn.LSTM(32, WIDTH, batch_first=True), languages)
