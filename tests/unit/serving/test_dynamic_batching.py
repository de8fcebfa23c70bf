"""The dynamic batching engine with a model that the test holds in its hand."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.engines.grouping import BatchLimits
from modelyard_serving.engines.protocol import EngineFailed, QueueFull


class Held:
    """Doubles numbers, each batch only when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go = threading.Semaphore(0)
        self.bad: set[int] = set()

    def __call__(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        self.may_go.acquire()
        if self.bad & set(batch):
            raise ValueError("bad number")
        return [2 * value for value in batch]

    def release(self, batches: int = 1000) -> None:
        self.may_go.release(batches)


Engine = DynamicBatchingEngine[int, int]


@pytest.fixture
def model() -> Held:
    return Held()


@pytest.fixture
async def engine(model: Held) -> AsyncIterator[Engine]:
    config, limits = EngineConfig(max_running=2, max_queued=2), BatchLimits(items=4)
    engine = DynamicBatchingEngine(model, config=config, limits=limits, stuck_after_s=5)
    yield engine
    model.release()
    await asyncio.to_thread(engine.close)


def _items(*values: int, length: int = 4) -> list[Item[int]]:
    return [Item(value, length) for value in values]


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - the engine's thread has no event of ours
            await asyncio.sleep(0.001)


async def _begin(engine: Engine, model: Held, value: int = 1) -> asyncio.Task[list[int]]:
    """A request that the engine works on from now on."""
    job = engine.submit(_items(value))
    await _until(lambda: len(model.batches) == 1)
    return asyncio.create_task(job.result())


async def test_what_waits_together_is_computed_together(engine: Engine, model: Held) -> None:
    first = await _begin(engine, model)
    jobs = [engine.submit(_items(value)) for value in (2, 3)]
    model.release()
    assert [await first, *[await job.result() for job in jobs]] == [[2], [4], [6]]
    assert model.batches == [[1], [2, 3]]
    assert (engine.stats().batches, engine.stats().batch_items) == (2, 3)


async def test_results_come_in_the_order_of_the_items(engine: Engine, model: Held) -> None:
    model.release()
    job = engine.submit([Item(value, length) for value, length in [(1, 9), (2, 100), (3, 300), (4, 8), (5, 101)]])
    assert await job.result() == [2, 4, 6, 8, 10]
    assert model.batches == [[3], [5, 2], [1, 4]]
    assert await engine.submit([]).result() == []


async def test_a_lone_request_to_an_idle_engine_goes_at_once(model: Held) -> None:
    engine = DynamicBatchingEngine(model, config=EngineConfig(), max_wait_s=60, stuck_after_s=5)
    model.release()
    for value in range(3):
        assert await asyncio.wait_for(engine.submit(_items(value)).result(), 5) == [2 * value]
    await asyncio.to_thread(engine.close)


async def test_after_company_a_request_waits_for_it_and_no_longer(model: Held) -> None:
    engine = DynamicBatchingEngine(model, config=EngineConfig(), max_wait_s=0.3, stuck_after_s=5)
    first = await _begin(engine, model)
    pair = [engine.submit(_items(value)) for value in (2, 3)]
    model.release()
    await asyncio.gather(first, *(job.result() for job in pair))
    again = [engine.submit(_items(4))]
    await asyncio.sleep(0.01)
    again.append(engine.submit(_items(5)))
    await asyncio.gather(*(job.result() for job in again))
    assert model.batches[2:] == [[4, 5]]
    began = time.monotonic()
    await engine.submit(_items(6)).result()
    assert time.monotonic() - began < 2
    await asyncio.to_thread(engine.close)


async def test_a_full_queue_refuses_and_takes_again_when_one_has_gone(engine: Engine, model: Held) -> None:
    first = await _begin(engine, model)
    jobs = [engine.submit(_items(value)) for value in (2, 3, 4)]
    assert (engine.stats().running, engine.stats().queued) == (1, 3)
    with pytest.raises(QueueFull):
        engine.submit(_items(5))
    urgent = engine.submit(_items(6), urgent=True)
    admitted = engine.submit(_items(6), admitted=True)
    jobs[0].cancel()
    urgent.cancel()
    admitted.cancel()
    jobs[0] = engine.submit(_items(7))
    model.release()
    assert [await first, *[await job.result() for job in jobs]] == [[2], [14], [6], [8]]
    assert (engine.stats().running, engine.stats().queued) == (0, 0)


async def test_limits_change_while_it_runs(engine: Engine, model: Held) -> None:
    first = await _begin(engine, model)
    engine.resize(EngineConfig(max_running=1, max_queued=0))
    with pytest.raises(QueueFull):
        engine.submit(_items(2))
    engine.resize(EngineConfig(max_running=1, max_queued=1))
    job = engine.submit(_items(2))
    model.release()
    assert (await first, await job.result()) == ([2], [4])


async def test_what_is_cancelled_is_dropped_before_its_batch(engine: Engine, model: Held) -> None:
    first = await _begin(engine, model)
    gone, stays = engine.submit(_items(2, 3, 4)), engine.submit(_items(5))
    gone.cancel()
    gone.cancel()
    model.release()
    assert (await first, await stays.result()) == ([2], [10])
    assert model.batches == [[1], [5]]


async def test_a_request_of_many_items_holds_up_no_other_and_is_not_held_up(model: Held) -> None:
    engine = DynamicBatchingEngine(model, config=EngineConfig(), limits=BatchLimits(items=1), stuck_after_s=5)
    many = engine.submit(_items(*range(10, 16)))
    await _until(lambda: len(model.batches) == 1)
    others = [engine.submit(_items(value)) for value in range(3)]
    model.release()
    await asyncio.gather(many.result(), *(job.result() for job in others))
    order = [batch[0] for batch in model.batches]
    assert order.index(2) <= 5
    assert order[:5].count(10) + order[:5].count(11) == 2
    await asyncio.to_thread(engine.close)


async def test_an_urgent_request_is_first(engine: Engine, model: Held) -> None:
    engine._limits = BatchLimits(items=1)
    first = await _begin(engine, model)
    jobs = [engine.submit(_items(2)), engine.submit(_items(3), urgent=True)]
    model.release()
    await asyncio.gather(first, *(job.result() for job in jobs))
    assert model.batches == [[1], [3], [2]]


async def test_a_bad_request_fails_alone(engine: Engine, model: Held) -> None:
    model.bad = {3}
    first = await _begin(engine, model)
    jobs = [engine.submit(_items(value)) for value in (2, 3, 4)]
    model.release()
    answers = await asyncio.gather(first, *(job.result() for job in jobs), return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [[2], [4], [8]]
    assert isinstance(answers[2], EngineFailed)
    assert "ValueError: bad number" in str(answers[2])
    assert model.batches == [[1], [2, 3, 4], [2], [3], [4]]
    assert (engine.stats().running, engine.stats().queued) == (0, 0)
    engine.check()


async def test_a_stuck_batch_and_a_closed_engine_are_told(model: Held) -> None:
    engine = DynamicBatchingEngine(model, config=EngineConfig(), stuck_after_s=0.05)
    jobs = [engine.submit(_items(1))]
    await _until(lambda: len(model.batches) == 1)
    jobs.append(engine.submit(_items(2)))
    engine.check()
    await asyncio.sleep(0.06)
    with pytest.raises(EngineFailed, match="has not come back"):
        engine.check()
    await asyncio.to_thread(engine.close)
    model.release()
    answers = await asyncio.gather(*(job.result() for job in jobs), return_exceptions=True)
    assert [answers[0], type(answers[1])] == [[2], EngineFailed]
    await _until(lambda: not engine._thread.is_alive())
    with pytest.raises(EngineFailed, match="thread is gone"):
        engine.check()
    with pytest.raises(EngineFailed, match="has stopped"):
        engine.submit(_items(1))
