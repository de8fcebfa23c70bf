"""GPT-2: learned positions, norms with bias, one projection for queries, keys and values."""

from dataclasses import dataclass
from typing import Any

from torch.nn import functional

from modelyard_serving.engines.batching.attention import attend
from modelyard_serving.engines.batching.decoder import Chunks, Scores, release_weights, require
from modelyard_serving.engines.batching.kv_memory import KVMemory, KVShape
from modelyard_serving.engines.batching.linear import Linear
from modelyard_serving.engines.batching.step import build_step


@dataclass(frozen=True)
class _Layer:
    before_attention: Any
    qkv: Linear
    scale: float
    out: Linear
    before_mlp: Any
    up: Linear
    down: Linear


class GPT2Decoder:
    """The weights of one model."""

    def __init__(self, model: Any, release: bool) -> None:  # noqa: FBT001
        config, base = model.config, model.transformer
        require(not config.add_cross_attention, "it attends to another model's output")
        self._heads = config.num_attention_heads
        self._size = config.hidden_size // self._heads
        self._act = base.h[0].mlp.act
        self._embedding = base.wte.weight
        self._positions = base.wpe.weight
        self._norm = base.ln_f
        self.kv = KVShape(len(base.h), self._heads, self._size, self._embedding.dtype, self._embedding.device)
        self._layers = [_layer(each, release=release) for each in base.h]
        self._head = Linear([model.lm_head.weight], [model.lm_head.bias])

    def logits(self, chunks: Chunks, memory: KVMemory) -> Scores:
        step = build_step(chunks, memory)
        hidden = functional.embedding(step.tokens, self._embedding)
        hidden = hidden + functional.embedding(step.positions, self._positions)
        for number, layer in enumerate(self._layers):
            heads = layer.qkv(layer.before_attention(hidden)).view(len(hidden), 3, self._heads, self._size)
            queries, keys, values = heads.unbind(1)
            memory.write(number, step.places, keys, values)
            hidden = hidden + layer.out(attend(queries, number, step, memory, layer.scale))
            hidden = hidden + layer.down(self._act(layer.up(layer.before_mlp(hidden))))
        return Scores.of(self._head(self._norm(hidden.index_select(0, step.ends))))


def _layer(layer: Any, *, release: bool) -> _Layer:
    packed = _Layer(
        before_attention=layer.ln_1,
        qkv=_turned(layer.attn.c_attn),
        scale=layer.attn.scaling,
        out=_turned(layer.attn.c_proj),
        before_mlp=layer.ln_2,
        up=_turned(layer.mlp.c_fc),
        down=_turned(layer.mlp.c_proj),
    )
    if release:
        release_weights(layer)
    return packed


def _turned(layer: Any) -> Linear:
    """GPT-2 keeps its weights with the inputs first."""
    require(type(layer).__name__ == "Conv1D", f"a layer is of class {type(layer).__name__}")
    return Linear([layer.weight.t()], [layer.bias])
