"""Loading what text classification and rerank have in common: a transformers model with a classification head."""

from dataclasses import dataclass
from typing import Any

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.models.folder import ModelFiles, check_weights
from modelyard_serving.start import Start
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.text_inputs import TextInputs

ARCHITECTURE = "ForSequenceClassification"
PROOF_TEXT = "the quick brown fox"
WARM_SHAPES = ((1, 8), (1, 32), (1, 128), (8, 16), (8, 64))
"""Rows and tokens of the batches that are computed before the first request."""


def labels_of(files: ModelFiles) -> int | None:
    """How many labels a folder's classification head has; None where it has no such head."""
    if not any(name.endswith(ARCHITECTURE) for name in files.architectures):
        return None
    # config.json tells their names, or where they have none their number; else there are two.
    return len(files.config.get("id2label") or {}) or int(files.config.get("num_labels") or 2)


@dataclass(frozen=True)
class Scoring:
    """A model that gives each text a row of scores."""

    model: BatchedModel[dict[str, list[int]], Any]
    inputs: TextInputs
    settings: Any


def load_scoring(files: ModelFiles, config: ReplicaConfig, start: Start) -> Scoring:
    """Check, import, read, warm up.

    Raises:
        StartFailure: the model cannot be served.
    """
    with start.phase("check"):
        folder = check_weights(files, config.memory_bytes)
    with start.phase("imports"):
        # Here and not above: the import takes seconds and belongs into the ledger of the start.
        from transformers import AutoModelForSequenceClassification as Auto

        from modelyard_serving.models import encoder as encoders
        from modelyard_serving.models import loading
        from modelyard_serving.models.sequence_scores import SequenceScores

        settings = encoders.import_architecture(folder, config.model.uri, Auto)
    with start.phase("load", bytes=folder.load_bytes):
        encoder = encoders.load_encoder(folder, settings, config, Auto)
    compute = SequenceScores(encoder)
    with start.phase("warmup"), loading.failures_told(config.model.uri):
        some: list[int] = encoder.tokenizer(PROOF_TEXT)["input_ids"]
        for rows, tokens in WARM_SHAPES:
            [row, *_] = compute([{"input_ids": (some * tokens)[: min(tokens, encoder.max_tokens)]}] * rows)
    if not (abs(row) < float("inf")).all():
        raise files.invalid("the model computes no numbers (NaN or infinity): the weights are damaged")
    engine = DynamicBatchingEngine(compute, config=config.engine)
    model = BatchedModel(engine, Item({"input_ids": some}, len(some)), len(some))
    return Scoring(model, TextInputs(encoder.tokenizer, max_tokens=encoder.max_tokens), settings)
