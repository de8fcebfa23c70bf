"""A model whose items take work to make: each in a thread beside the engine's, while the engine computes others."""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.tasks.batched import BatchedModel

MAX_THREADS = 8
"""More would hold too many decoded pictures at once."""

Raw = TypeVar("Raw")
In = TypeVar("In")
Out = TypeVar("Out")


class PreparingModel(BatchedModel[In, Out], Generic[Raw, In, Out]):
    """`prepare` makes an item of what a request brings; it is called in as many threads as there are processors."""

    def __init__(
        self, engine: DynamicBatchingEngine[In, Out], proof: Item[In], prepare: Callable[[Raw], Item[In]]
    ) -> None:
        super().__init__(engine, proof, proof_tokens=0)
        self._prepare = prepare
        threads = min(len(os.sched_getaffinity(0)), MAX_THREADS)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="modelyard-prepare")

    async def run_raw(self, raws: Sequence[Raw], *, timeout_s: float) -> list[Out]:
        """What the raws, one or more, come to, in their order; a request has its place in the queue from the start.

        Raises:
            QueueFull, TimeoutError, EngineFailed: as `run` does; and what `prepare` raises.
        """
        job = self._engine.submit(None)
        try:
            async with asyncio.timeout(timeout_s):
                self._engine.supply(job, await self._prepare_all(raws))
                return await job.result()
        finally:
            job.cancel()

    def close(self) -> None:
        """As `ServedModel` says."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    async def _prepare_all(self, raws: Sequence[Raw]) -> list[Item[In]]:
        loop = asyncio.get_running_loop()
        making = [loop.run_in_executor(self._pool, self._prepare, raw) for raw in raws]
        try:
            return await asyncio.gather(*making)
        finally:  # of a request that has failed or gone, no more is made
            for each in making:
                each.cancel()
