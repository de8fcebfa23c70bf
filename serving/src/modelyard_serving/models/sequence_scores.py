"""The scores of a transformers model with a classification head, for a batch of texts or pairs of texts."""

from collections.abc import Sequence
from typing import Any

import torch

from modelyard_serving.models.encoder import Encoder, pad

Sequenced = dict[str, list[int]]
"""`input_ids` and, where the model has them, `token_type_ids`."""


class SequenceScores:
    """Computes one row of scores for each text, before any softmax or sigmoid."""

    def __init__(self, encoder: Encoder) -> None:
        self._model = encoder.model
        self._padding = encoder.tokenizer.pad_token_id or 0

    def __call__(self, batch: Sequence[Sequenced]) -> list[Any]:
        """A float32 numpy row for each."""
        device = self._model.device
        rows = [each["input_ids"] for each in batch]
        inputs = {
            "input_ids": pad(rows, self._padding, device),
            "attention_mask": pad([[1] * len(row) for row in rows], 0, device),
        }
        if "token_type_ids" in batch[0]:
            inputs["token_type_ids"] = pad([each["token_type_ids"] for each in batch], 0, device)
        with torch.inference_mode():
            return list(self._model(**inputs).logits.float().cpu().numpy())
