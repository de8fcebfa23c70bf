"""The mean number of sunspots of each year from 1700 to 2008 (public domain, as statsmodels carries it)."""

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from examples.flow.data import STATSMODELS, data_of

FILE = "statsmodels/datasets/sunspots/sunspots.csv"
PAST, AHEAD = 44, 11
"""Years that are looked at, four cycles of the sun; years that are foretold, one."""
MEASURED_FROM = 1955
"""Forecasts of years from here on are only ever measured."""


@dataclass(frozen=True)
class Windows:
    """Stretches of years: what was, and what came next."""

    past: torch.Tensor
    """float32 (windows, PAST)."""
    ahead: torch.Tensor
    """float32 (windows, AHEAD)."""


def load() -> tuple[Windows, Windows]:
    """Windows to learn from, which end before `MEASURED_FROM`, and windows to measure, which foretell from then on.

    Raises:
        StepError: the package could not be installed.
    """
    return windows_of(data_of(STATSMODELS) / FILE)


def windows_of(file: Path) -> tuple[Windows, Windows]:
    """As `load`, from its file."""
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    years = [int(row["YEAR"]) for row in rows]
    numbers = torch.tensor([float(row["SUNACTIVITY"]) for row in rows])
    border = years.index(MEASURED_FROM)
    return _windows(numbers[:border]), _windows(numbers[border - PAST :])


def _windows(numbers: torch.Tensor) -> Windows:
    stretches = numbers.unfold(0, PAST + AHEAD, 1)
    return Windows(stretches[:, :PAST].contiguous(), stretches[:, PAST:].contiguous())
