"""Greedy answers in float32 are those of transformers' own `generate`, whatever else is in the batch."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.serving.batching.families import CONTEXT, FAMILIES, VOCABULARY, generate, tiny_model

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.batching.decoder import Chunks, Decoder, Scores, decoder_for
from modelyard_serving.engines.batching.engine import BatchingEngine
from modelyard_serving.engines.batching.kv_memory import KVMemory
from modelyard_serving.engines.protocol import Generation, GenerationRequest, Sampling

GREEDY = Sampling(temperature=0)


class _Counted:
    """A decoder that counts its steps."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.kv = decoder.kv
        self.steps = 0

    def logits(self, chunks: Chunks, memory: KVMemory) -> Scores:
        self.steps += 1
        return self._decoder.logits(chunks, memory)


Arrival = tuple[int, int, int, bool, bool]
ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 20),  # the step in which it comes
        st.integers(1, 50),  # tokens of its prompt
        st.integers(1, 12),  # tokens of its answer
        st.booleans(),  # begins as others do
        st.booleans(),  # leaves after two tokens
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=5, deadline=None)
@given(
    arrivals=ARRIVALS,
    model=st.fixed_dictionaries({
        "layers": st.integers(1, 3), "heads": st.sampled_from([2, 4]), "kv_heads": st.sampled_from([1, 2]),
        "size": st.sampled_from([4, 8, 16]), "seed": st.integers(0, 9),
    }),
    block_size=st.sampled_from([8, 16, 32]),
    spare_blocks=st.integers(0, 12),
    step_tokens=st.integers(4, 80),
    most=st.integers(1, 6),
)  # fmt: skip
async def test_whatever_joins_and_leaves(
    family: str, arrivals: list[Arrival], model: dict[str, int], block_size: int, spare_blocks: int, step_tokens: int,
    most: int,
) -> None:  # fmt: skip
    tiny = tiny_model(family, **model)
    decoder = _Counted(decoder_for(tiny))
    memory = KVMemory(decoder.kv, blocks=CONTEXT // block_size + 1 + spare_blocks, block_size=block_size)
    engine = BatchingEngine(
        decoder, memory, context_length=CONTEXT, end_tokens=frozenset(), step_tokens=step_tokens,
        config=EngineConfig(max_running=most),
    )  # fmt: skip

    async def ask(number: int, arrival: Arrival) -> None:
        come, length, answer, alike, leaves = arrival
        prompt = tuple((place * 7 + (0 if alike else number) * (place + 1)) % VOCABULARY for place in range(length))
        await _until(lambda: decoder.steps >= come or engine.stats().running == 0)
        generation = engine.submit(GenerationRequest(prompt, answer, GREEDY))
        tokens = await _first(generation, 2 if leaves else answer)
        generation.cancel()
        assert tokens == generate(tiny, prompt, answer)[: len(tokens)]

    try:
        await asyncio.gather(*(ask(number, arrival) for number, arrival in enumerate(arrivals)))
        await _until(lambda: engine.stats().running == 0)
    finally:
        engine.close()


async def _first(generation: Generation, count: int) -> list[int]:
    tokens: list[int] = []
    async for event in generation:
        tokens.append(event.token)
        if len(tokens) == count:
            break
    return tokens


async def _until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - the engine's thread has no event to wait for
            await asyncio.sleep(0.0002)
