"""The networks: from pictures (batch, 1, height, width), prepared by `Reader`, to scores of ten digits."""

import torch
from torch import nn

CLASSES = 10


class Reader(nn.Module):
    """Takes pictures as they come; argument and result have the names of the package's signature."""

    def __init__(self, network: nn.Module, mean: float, std: float) -> None:
        """`mean` and `std` are those of the greys of the training pictures, as shares of the darkest."""
        super().__init__()
        self.network = network
        self.mean = mean
        self.std = std

    def scores(self, image: torch.Tensor) -> torch.Tensor:
        """float32 (batch, 10) for grey pictures, float32 (batch, 1, height, width) from 0 (paper) to 255 (ink)."""
        scores: torch.Tensor = self.network((image / 255 - self.mean) / self.std)
        return scores

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.scores(image)}


def dense() -> nn.Module:
    """784-128-128-10, for 28 x 28."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(128, CLASSES),
    )  # fmt: skip


def convolutional() -> nn.Module:
    """Two layers of 3 x 3 convolutions with pooling between, for 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, CLASSES),
    )  # fmt: skip


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in (He et al. 2015, https://arxiv.org/abs/1512.03385)."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(image) + self.shortcut(image))


def residual() -> nn.Module:
    """Five residual blocks for 8 x 8."""
    return nn.Sequential(
        Residual(1, 16), Residual(16, 16), Residual(16, 32, stride=2), Residual(32, 32), Residual(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES),
    )  # fmt: skip
