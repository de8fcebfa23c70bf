"""From digits to packages of networks that read them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from examples.digits import networks
from examples.digits.data import LABELS, MNIST, UCI, Collection, Digits
from examples.flow.evaluation import accuracy, confusion_matrix, outputs_for
from examples.flow.packaging import Measured, package
from examples.flow.training import Course, fit, on_one_core
from torch import nn

from modelyard_hack.step import step

SEED = 7


@dataclass(frozen=True)
class Recipe:
    """What makes a network of its own out of a collection of digits."""

    collection: Collection
    network: Callable[[], nn.Module]
    course: Course
    mean: float
    std: float
    """Of the training pictures, as shares of the darkest grey."""


def shifted(images: torch.Tensor) -> torch.Tensor:
    """All pictures of a batch by up to two pixels to a side; their margins are blank."""
    down, right = torch.randint(-2, 3, (2,)).tolist()
    return torch.roll(images, (down, right), (2, 3))


RECIPES = {
    "digits-dense": Recipe(MNIST, networks.dense, Course(epochs=20, learning_rate=2e-3), 0.131, 0.308),
    "digits-convolutional": Recipe(
        MNIST, networks.convolutional, Course(epochs=8, learning_rate=3e-3, augment=shifted), 0.131, 0.308
    ),
    "digits-residual": Recipe(UCI, networks.residual, Course(epochs=20, learning_rate=3e-3), 0.305, 0.376),
}


def build(name: str, folder: Path) -> None:
    """Fill `folder` with the package of one of `RECIPES`."""
    recipe = RECIPES[name]
    digits = recipe.collection.load()
    on_one_core(SEED)
    reader = networks.Reader(recipe.network(), recipe.mean, recipe.std)
    with step(f"train on {len(digits.split.train)} of {recipe.collection.name}"):
        images, labels = digits.part(digits.split.train)
        fit(reader, images, labels, _loss, recipe.course)
    figures = {"accuracy": _measure(reader, digits)}
    side = recipe.collection.side
    package(
        folder, reader, {"image": torch.zeros(2, 1, side, side)}, Measured(recipe.collection.name, figures),
        task="image-classification", labels=LABELS,
        preprocessing={"image": {
            "channels": "L", "resize": {"height": side, "width": side}, "scale": 1.0, "mean": [0.0], "std": [1.0],
        }},
    )  # fmt: skip


def _loss(computed: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(computed["logits"], labels)


def _measure(reader: networks.Reader, digits: Digits) -> float:
    """The accuracy on the test part; tells also that on the validation part, and what was taken for what."""
    images, labels = digits.part(digits.split.validation)
    validation = accuracy(outputs_for(reader, images)["logits"], labels)
    images, labels = digits.part(digits.split.test)
    logits = outputs_for(reader, images)["logits"]
    print(f"  accuracy: {validation:.4f} on the validation part, {accuracy(logits, labels):.4f} on the test part")
    print("  test part, a row for each digit, a column for what it was taken for:")
    for label, row in zip(LABELS, confusion_matrix(logits, labels).tolist(), strict=True):
        print(f"    {label} " + "".join(f"{count:5}" for count in row))
    return accuracy(logits, labels)
