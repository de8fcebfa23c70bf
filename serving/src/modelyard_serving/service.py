"""A loaded model with everything that its endpoints need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.routing import BaseRoute

from modelyard_serving.contract import EngineConfig, ReplicaConfig, StartLedger
from modelyard_serving.engines.protocol import EngineStats
from modelyard_serving.journal import Journal
from modelyard_serving.metrics import ReplicaMetrics


class ServedModel(Protocol):
    """What the platform needs of a loaded model, whatever its task."""

    async def prove(self, timeout_s: float) -> tuple[int, float]:
        """A real inference beside whatever else runs: tokens made or read, and seconds it took.

        Raises:
            TimeoutError: it took longer than `timeout_s`.
            EngineFailed: the engine could not do it.
        """

    def stats(self) -> EngineStats:
        """What the engine has on its hands now."""

    def check(self) -> None:
        """Raise `EngineFailed` when the engine makes no progress any more."""

    def resize(self, config: EngineConfig) -> None:
        """Obey new limits from now on; what runs goes on."""

    def close(self) -> None:
        """Stop the engine; may wait for the step in progress."""


@dataclass(frozen=True)
class Loaded:
    """A model in memory and the endpoints that its task offers."""

    model: ServedModel
    endpoints: Callable[["Service"], Sequence[BaseRoute]]
    facts: dict[str, Any] = field(default_factory=dict)
    """What the journal tells of the model once it is ready."""


@dataclass(frozen=True)
class Service:
    """What a replica serves now."""

    config: ReplicaConfig
    loaded: Loaded
    start: StartLedger
    journal: Journal
    metrics: ReplicaMetrics
    loaded_at: int
    """Seconds since the epoch; `created` of the model in OpenAI's list."""

    def measure(self) -> None:
        """Note in the metrics what the engine has on its hands now."""
        self.metrics.engine(self.loaded.model.stats())
