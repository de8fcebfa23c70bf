"""How good a network is on samples that it was not trained on."""

import torch
from torch import nn


def outputs_for(network: nn.Module, inputs: torch.Tensor, *, batch: int = 256) -> dict[str, torch.Tensor]:
    """What the network gives, by name, for all inputs in their order."""
    with torch.inference_mode():
        parts = [network(part) for part in torch.split(inputs, batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of rows of `logits` (samples, classes) whose largest is at the label."""
    return float((logits.argmax(1) == labels).float().mean())


def confusion_matrix(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(classes, classes): how often a sample of the row's class was taken for the column's."""
    classes = logits.shape[1]
    places = labels * classes + logits.argmax(1)
    return torch.bincount(places, minlength=classes * classes).reshape(classes, classes)
