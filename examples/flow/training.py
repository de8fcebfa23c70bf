"""Training a network on one core."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

Loss = Callable[[dict[str, torch.Tensor], torch.Tensor], torch.Tensor]
"""From what a network gives, by name, and what it should be."""

Augment = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Course:
    """How long and how fast a network learns."""

    epochs: int
    learning_rate: float
    batch: int = 64
    weight_decay: float = 0.01
    augment: Augment | None = None
    """Changes the inputs of each batch, so that no sample is ever seen twice alike."""


def on_one_core(seed: int) -> None:
    """Make what torch does from here on repeatable, and leave the other cores to others."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def fit(network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, loss: Loss, course: Course) -> None:
    """Train `network` by AdamW, the learning rate rising and falling once; leaves it in evaluation mode."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=course.learning_rate, weight_decay=course.weight_decay)
    steps = course.epochs * -(-len(inputs) // course.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=course.learning_rate, total_steps=steps)
    network.train()
    for _ in range(course.epochs):
        for rows in torch.split(torch.randperm(len(inputs)), course.batch):
            batch = inputs[rows] if course.augment is None else course.augment(inputs[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss(network(batch), targets[rows]))
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    network.eval()
