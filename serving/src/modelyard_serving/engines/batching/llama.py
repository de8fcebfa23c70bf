"""Llama and those that differ from it in a bias or a norm: Mistral, Qwen2, Qwen3, SmolLM2."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from modelyard_serving.engines.batching.attention import attend
from modelyard_serving.engines.batching.decoder import Chunks, Scores, release_weights, require
from modelyard_serving.engines.batching.kv_memory import KVMemory, KVShape
from modelyard_serving.engines.batching.linear import Linear
from modelyard_serving.engines.batching.step import Step, build_step

ROPES = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions that are the same however long the sequence is."""


@dataclass(frozen=True)
class _Layer:
    before_attention: torch.Tensor
    qkv: Linear
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    out: Linear
    before_mlp: torch.Tensor
    gate_up: Linear
    down: Linear


class LlamaDecoder:
    """The weights of one model, projections with the same input as one."""

    def __init__(self, model: Any, release: bool) -> None:  # noqa: FBT001
        require_llama(model)
        config, base = model.config, model.model
        first = base.layers[0].self_attn
        self._size = first.head_dim
        self._heads = config.num_attention_heads
        self._scale = first.scaling
        self._epsilon = config.rms_norm_eps
        self._act = base.layers[0].mlp.act_fn
        self._rotary = base.rotary_emb
        self._embedding = base.embed_tokens.weight
        self._norm = base.norm.weight
        self.kv = KVShape(
            len(base.layers), config.num_key_value_heads, self._size, self._embedding.dtype, self._embedding.device
        )
        self._layers = [_layer(each, release=release) for each in base.layers]
        self._head = _fused(model.lm_head)

    def logits(self, chunks: Chunks, memory: KVMemory) -> Scores:
        step = build_step(chunks, memory)
        hidden = functional.embedding(step.tokens, self._embedding)
        cos, sin = (each[0].unsqueeze(1) for each in self._rotary(hidden, step.positions.unsqueeze(0)))
        half = self._size // 2
        sin = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)  # so that turning halves needs no change of sign
        for number, layer in enumerate(self._layers):
            normed = self._rms(hidden, layer.before_attention)
            hidden = hidden + self._attention(normed, number, layer, (cos, sin), step, memory)
            gate, up = layer.gate_up(self._rms(hidden, layer.before_mlp)).chunk(2, dim=-1)
            hidden = hidden + layer.down(self._act(gate) * up)
        return Scores.of(self._head(self._rms(hidden.index_select(0, step.ends), self._norm)))

    def _attention(
        self, normed: torch.Tensor, number: int, layer: _Layer, turn: tuple[torch.Tensor, torch.Tensor], step: Step,
        memory: KVMemory,
    ) -> torch.Tensor:  # fmt: skip
        heads = layer.qkv(normed).view(len(normed), -1, self._size)
        turned, values = heads.tensor_split((heads.shape[1] - self.kv.heads,), dim=1)
        if layer.query_norm is not None and layer.key_norm is not None:
            queries, keys = turned.tensor_split((self._heads,), dim=1)
            turned = torch.cat((self._rms(queries, layer.query_norm), self._rms(keys, layer.key_norm)), dim=1)
        cos, sin = turn
        turned = torch.addcmul(turned * cos, turned.roll(self._size // 2, dims=-1), sin)
        queries, keys = turned.tensor_split((self._heads,), dim=1)
        memory.write(number, step.places, keys, values)
        return layer.out(attend(queries, number, step, memory, self._scale))

    def _rms(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, weight.shape, weight, self._epsilon)


def require_llama(model: Any) -> None:
    """Raise `Unsupported` where a model of these classes has what no decoder here computes."""
    config = model.config
    kind = config.rope_parameters.get("rope_type", "default")
    require(kind in ROPES, f"rotary positions of kind {kind} depend on the length of the sequence")
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    require(
        not (window and slides) or window >= config.max_position_embeddings,
        f"attention slides in a window of {window} tokens",
    )
    for layer in model.model.layers:
        for each in (*layer.self_attn.children(), *layer.mlp.children()):
            plain = type(each) is torch.nn.Linear or not isinstance(getattr(each, "weight", None), torch.Tensor)
            require(plain or each.weight.dim() == 1, f"a layer is of class {type(each).__name__}")


def _layer(layer: Any, *, release: bool) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    packed = _Layer(
        before_attention=layer.input_layernorm.weight,
        qkv=_fused(attention.q_proj, attention.k_proj, attention.v_proj),
        query_norm=attention.q_norm.weight if hasattr(attention, "q_norm") else None,
        key_norm=attention.k_norm.weight if hasattr(attention, "k_norm") else None,
        out=_fused(attention.o_proj),
        before_mlp=layer.post_attention_layernorm.weight,
        gate_up=_fused(mlp.gate_proj, mlp.up_proj),
        down=_fused(mlp.down_proj),
    )
    if release:
        release_weights(layer)
    return packed


def _fused(*layers: Any) -> Linear:
    return Linear([each.weight for each in layers], [each.bias for each in layers])
