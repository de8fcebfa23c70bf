"""A loaded model with everything that its endpoints need."""

from dataclasses import dataclass

from modelyard_serving.contract import ReplicaConfig, StartLedger
from modelyard_serving.journal import Journal
from modelyard_serving.metrics import ReplicaMetrics
from modelyard_serving.tasks.text_generation import TextGeneration


@dataclass(frozen=True)
class Service:
    """What a replica serves now."""

    config: ReplicaConfig
    text: TextGeneration
    start: StartLedger
    journal: Journal
    metrics: ReplicaMetrics
    loaded_at: int
    """Seconds since the epoch; `created` of the model in OpenAI's list."""
