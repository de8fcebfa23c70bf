"""Which engine a model gets."""

from dataclasses import dataclass
from typing import Any

import torch

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.engines.batching.decoder import Decoder, Unsupported, decoder_for
from modelyard_serving.engines.batching.engine import BatchingEngine
from modelyard_serving.engines.batching.kv_memory import KVMemory
from modelyard_serving.engines.batching.scheduler import Chunk
from modelyard_serving.engines.batching.sequence import Sequence
from modelyard_serving.engines.batching.sizing import free_bytes, kv_blocks
from modelyard_serving.engines.protocol import Engine
from modelyard_serving.engines.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class ChosenEngine:
    """An engine, and why it is not the faster one."""

    engine: Engine
    slower_because: str | None


def choose_engine(
    model: Any, config: ReplicaConfig, *, context_length: int, end_tokens: frozenset[int], taken_bytes: int
) -> ChosenEngine:
    """The batching engine where it knows the model, which then belongs to it; else the one for every model.

    `taken_bytes` of the replica's memory are for other things than keys and values.
    """
    try:
        decoder = decoder_for(model, release=True)
    except Unsupported as cause:
        engine = TransformersEngine(model, context_length=context_length, end_tokens=end_tokens, config=config.engine)
        return ChosenEngine(engine, str(cause))
    room = free_bytes(decoder.kv.device, memory_bytes=config.memory_bytes, taken_bytes=taken_bytes)
    blocks = kv_blocks(decoder.kv, context=context_length, max_running=config.engine.max_running, free_bytes=room)
    memory = KVMemory(decoder.kv, blocks=blocks)
    _warm_up(decoder, memory)
    batching = BatchingEngine(
        decoder, memory, context_length=context_length, end_tokens=end_tokens, config=config.engine
    )
    return ChosenEngine(batching, None)


def _warm_up(decoder: Decoder, memory: KVMemory) -> None:
    """A prompt and a step of our own: what is set up on first use is set up now."""
    sequence = Sequence([0] * 8, group=None)
    sequence.blocks = [0]
    with torch.inference_mode():
        decoder.logits([Chunk(sequence, 0, 7)], memory)
        decoder.logits([Chunk(sequence, 7, 1)], memory)
