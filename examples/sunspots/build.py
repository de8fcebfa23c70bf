"""From the sunspots of three centuries to the package of a forecaster."""

from pathlib import Path

import torch
from examples.flow.evaluation import outputs_for
from examples.flow.packaging import Measured, package
from examples.flow.training import Course, fit, on_one_core
from examples.sunspots.network import Forecaster
from examples.sunspots.series import AHEAD, MEASURED_FROM, PAST, Windows, load
from torch import nn

from modelyard_hack.step import step

SEED = 5


def noisy(past: torch.Tensor) -> torch.Tensor:
    """Years as they could have been counted too: there are few, and a network learns them by heart."""
    return (past * (1 + 0.1 * torch.randn_like(past)) + 2 * torch.randn_like(past)).clamp(min=0)


COURSE = Course(epochs=60, learning_rate=5e-3, batch=32, augment=noisy)


def build(name: str, folder: Path) -> None:
    """Fill `folder` with the package of `sunspots-lstm`."""
    learnt, measured = load()
    on_one_core(SEED)
    network = Forecaster(AHEAD)
    with step(f"train on {len(learnt.past)} stretches of {PAST} years"):
        fit(network, learnt.past, learnt.ahead, _loss, COURSE)
    figures = {
        "mean absolute error": error(outputs_for(network, measured.past)["ahead"], measured),
        "mean absolute error of the cycle before": error(cycle_before(measured), measured),
        "mean absolute error of the mean": error(learnt.ahead.mean().expand_as(measured.ahead), measured),
    }
    print("  " + ", ".join(f"{what}: {value:.1f}" for what, value in figures.items()))
    dataset = f"yearly sunspots, {MEASURED_FROM} to 2008"
    package(folder, network, {"past": measured.past[:2].clone()}, Measured(dataset, figures), task="tensor")


def _loss(computed: dict[str, torch.Tensor], ahead: torch.Tensor) -> torch.Tensor:
    """By square roots, or the highest cycles would decide all; never at 0, where a root has no slope."""
    return nn.functional.smooth_l1_loss((computed["ahead"] + 1).sqrt(), (ahead + 1).sqrt())


def cycle_before(windows: Windows) -> torch.Tensor:
    """The simplest forecast that knows of the cycle: all will be as it was 11 years before."""
    return windows.past[:, -AHEAD:]


def error(ahead: torch.Tensor, windows: Windows) -> float:
    """The mean absolute error over all windows and years, in sunspots."""
    return float((ahead - windows.ahead).abs().mean())
