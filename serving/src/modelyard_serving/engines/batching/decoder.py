"""What a family of models computes in a step, with the weights of a loaded transformers model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from modelyard_serving.engines.batching.kv_memory import KVMemory, KVShape
from modelyard_serving.engines.batching.scheduler import Chunk

Chunks = Sequence[Chunk[Any]]


@dataclass(frozen=True)
class Scores:
    """What may follow each chunk of a step."""

    logits: torch.Tensor
    """(chunk, vocabulary); good until the next step."""
    best: list[int]
    """Where the highest is, by chunk."""

    @classmethod
    def of(cls, logits: torch.Tensor) -> "Scores":
        """The logits and the highest of them."""
        return cls(logits, logits.argmax(dim=-1).tolist())


class Decoder(Protocol):
    """The forward pass of one architecture."""

    kv: KVShape

    def logits(self, chunks: Chunks, memory: KVMemory) -> Scores:
        """Compute the tokens of `chunks`, those of one token first; put their keys and values into the memory."""


class Unsupported(Exception):
    """The model has something that this family's decoder does not compute; the text says what."""


def require(true: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise `Unsupported` unless `true`."""
    if not true:
        raise Unsupported(what)


def decoder_for(model: Any, *, release: bool = False) -> Decoder:
    """The decoder of the model's own class; with `release` the model loses each weight that the decoder has repacked.

    Raises:
        Unsupported: there is none, or the model differs from what it computes.
    """
    from modelyard_serving.engines.batching.gpt2 import GPT2Decoder
    from modelyard_serving.engines.batching.llama import LlamaDecoder
    from modelyard_serving.engines.batching.tiled_llama import TiledLlamaDecoder

    known: dict[str, type[Any]] = {
        "LlamaForCausalLM": LlamaDecoder, "MistralForCausalLM": LlamaDecoder, "Qwen2ForCausalLM": LlamaDecoder,
        "Qwen3ForCausalLM": LlamaDecoder, "GPT2LMHeadModel": GPT2Decoder,
    }  # fmt: skip
    name = type(model).__name__
    require(name in known, f"there is no decoder for {name}")
    if known[name] is LlamaDecoder:
        with suppress(Unsupported):
            return TiledLlamaDecoder(model, release)
    decoder: Decoder = known[name](model, release)
    return decoder


def release_weights(module: Any) -> None:
    """Let go of the matrices in `module`, which is of no use any more then."""
    for each in module.modules():
        if isinstance(getattr(each, "weight", None), torch.nn.Parameter) and each.weight.dim() > 1:
            each.weight = None
