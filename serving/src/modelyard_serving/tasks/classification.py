"""Text classification: texts in, labels with scores out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelyard_serving.engines.dynamic_batching import Item
from modelyard_serving.engines.protocol import EngineFailed
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.text_inputs import TextInput, TextInputs


class Activation(StrEnum):
    """What makes scores of what the model computes."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


def activation_of(problem_type: str | None, labels: int) -> Activation:
    """As transformers' own pipeline has it."""
    if problem_type == "regression":
        return Activation.NONE
    if problem_type == "multi_label_classification" or labels == 1:
        return Activation.SIGMOID
    return Activation.SOFTMAX


@dataclass(frozen=True)
class Scored:
    """A label with its place among the model's labels."""

    index: int
    label: str
    score: float


@dataclass(frozen=True)
class Classified:
    """For each input the likeliest labels with their scores, best first, and the tokens that all inputs had."""

    labels: list[list[Scored]]
    tokens: int


class TextClassification:
    """A model that knows `labels`."""

    def __init__(
        self, model: BatchedModel[dict[str, list[int]], Any], inputs: TextInputs, *, labels: tuple[str, ...],
        activation: Activation,
    ) -> None:  # fmt: skip
        self._model = model
        self._inputs = inputs
        self._labels = labels
        self._activation = activation

    async def classify(
        self, inputs: Sequence[TextInput], *, alone: bool, top_k: int | None, timeout_s: float
    ) -> Classified:
        """The `top_k` best labels of each input; None: all of them.

        Raises:
            InvalidInput: an input is not one that the model takes.
            QueueFull, TimeoutError, EngineFailed: as `BatchedModel.run` does.
        """
        rows = await self._inputs.tokenize(inputs, field="input", alone=alone)
        computed = await self._model.run([Item({"input_ids": row}, len(row)) for row in rows], timeout_s=timeout_s)
        scored = [best(row.tolist(), self._labels, self._activation, top_k) for row in computed]
        return Classified(scored, sum(map(len, rows)))


def best(computed: list[float], labels: Sequence[str], activation: Activation, top_k: int | None) -> list[Scored]:
    """The likeliest labels of a row that the model computed, best first; None: all of them.

    Raises:
        EngineFailed: the row has what is no number.
    """
    scores = activate(computed, activation)
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[:top_k]
    return [Scored(place, labels[place], scores[place]) for place in order]


def activate(computed: Sequence[float], activation: Activation) -> list[float]:
    """Scores out of what the model computed; raises `EngineFailed` for what is no number."""
    if not all(map(math.isfinite, computed)):
        raise EngineFailed("the model computes no numbers (NaN or infinity) for this input")
    match activation:
        case Activation.SOFTMAX:
            largest = max(computed)
            powers = [math.exp(each - largest) for each in computed]
            return [power / sum(powers) for power in powers]
        case Activation.SIGMOID:
            return [0.5 * (1 + math.tanh(each / 2)) for each in computed]
        case Activation.NONE:
            return list(computed)
