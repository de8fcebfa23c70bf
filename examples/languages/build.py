"""From message catalogues to packages of networks that tell the language of a text."""

from pathlib import Path

import torch
from examples.flow.data import DJANGO
from examples.flow.evaluation import accuracy, outputs_for
from examples.flow.packaging import Measured, package
from examples.flow.training import Course, fit, on_one_core
from examples.languages import networks
from examples.languages.catalogues import LANGUAGES, LENGTH, load
from torch import nn

from modelyard_hack.step import step

SEED = 11
NETWORKS = {"language-rnn": networks.plain, "language-lstm": networks.lstm}
COURSE = Course(epochs=8, learning_rate=5e-3, batch=128)


def build(name: str, folder: Path) -> None:
    """Fill `folder` with the package of `language-rnn` or `language-lstm`."""
    texts = load()
    on_one_core(SEED)
    network = NETWORKS[name](len(LANGUAGES))
    part = texts.split.train
    with step(f"train on {len(part)} texts in {len(LANGUAGES)} languages"):
        fit(network, texts.bytes[part], texts.languages[part], _loss, COURSE)
    validation, test = (
        accuracy(outputs_for(network, texts.bytes[part])["logits"], texts.languages[part])
        for part in (texts.split.validation, texts.split.test)
    )
    print(f"  accuracy: {validation:.4f} on the validation part, {test:.4f} on the test part")
    package(
        folder, network, {"text": torch.zeros(2, LENGTH, dtype=torch.uint8)},
        Measured(f"messages of {DJANGO}, {len(LANGUAGES)} languages", {"accuracy": test}),
        task="tensor", labels=LANGUAGES,
    )  # fmt: skip


def _loss(computed: dict[str, torch.Tensor], languages: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(computed["logits"], languages)
