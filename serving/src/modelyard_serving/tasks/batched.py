"""A model behind the dynamic batching engine, as the platform sees it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Generic, TypeVar

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.engines.protocol import EngineStats

In = TypeVar("In")
Out = TypeVar("Out")


class BatchedModel(Generic[In, Out]):
    """Runs items through the engine; `proof` is the item that shows that it can, `proof_tokens` what it reads."""

    def __init__(self, engine: DynamicBatchingEngine[In, Out], proof: Item[In], proof_tokens: int) -> None:
        self._engine = engine
        self._proof = proof
        self._proof_tokens = proof_tokens

    async def run(
        self, items: Sequence[Item[In]], *, timeout_s: float, urgent: bool = False, admitted: bool = False
    ) -> list[Out]:
        """What the items come to, in their order. Who stops waiting takes them from the engine.

        `admitted` says that they belong to a request some of whose items were taken before.

        Raises:
            QueueFull: the engine takes no more requests now.
            TimeoutError: it took longer than `timeout_s`.
            EngineFailed: the engine could not do it.
        """
        job = self._engine.submit(items, urgent=urgent, admitted=admitted)
        try:
            async with asyncio.timeout(timeout_s):
                return await job.result()
        finally:
            job.cancel()

    async def prove(self, timeout_s: float) -> tuple[int, float]:
        """As `ServedModel` says."""
        began = time.monotonic()
        await self.run([self._proof], timeout_s=timeout_s, urgent=True)
        return self._proof_tokens, time.monotonic() - began

    def stats(self) -> EngineStats:
        """As `ServedModel` says."""
        return self._engine.stats()

    def check(self) -> None:
        """As `ServedModel` says."""
        self._engine.check()

    def resize(self, config: EngineConfig) -> None:
        """As `ServedModel` says."""
        self._engine.resize(config)

    def close(self) -> None:
        """As `ServedModel` says."""
        self._engine.close()
