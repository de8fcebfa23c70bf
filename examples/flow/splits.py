"""Which samples train, which choose, which measure."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Split:
    """Indices of samples, int64; no index is in two parts.

    Nothing is ever chosen by the test part: it is measured once, and its figures go into the package.
    """

    train: torch.Tensor
    validation: torch.Tensor
    test: torch.Tensor


def split(count: int, *, seed: int, validation: float = 0.1, test: float = 0.2) -> Split:
    """Divide `count` samples at random; the same seed divides alike on every machine."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    tested, validated = round(count * test), round(count * validation)
    return Split(order[tested + validated :], order[tested : tested + validated], order[:tested])
