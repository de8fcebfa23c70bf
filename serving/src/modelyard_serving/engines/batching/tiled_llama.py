"""Llama and its like in bfloat16 on a processor with tiles: one call of our library computes a whole step."""

import ctypes
import weakref
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch

from modelyard_serving.engines.batching.decoder import Chunks, Scores, release_weights, require
from modelyard_serving.engines.batching.kv_memory import KVMemory, KVShape
from modelyard_serving.engines.batching.llama import require_llama
from modelyard_serving.engines.batching.sequence import blocks_for
from modelyard_serving.engines.batching.tiles import (
    DEPTH,
    MOST_GROUP,
    MOST_SIZE,
    TILE,
    LayerFields,
    ModelFields,
    PackedWeights,
    StepFields,
    library,
)

FIRST_POSITIONS = 2048
"""Positions whose angles are computed at the start; twice as many whenever a sequence is longer."""


class TiledLlamaDecoder:
    """The weights of one model, packed into tiles.

    Sums and what goes from layer to layer are float32, inputs of matrices, keys and values bfloat16.
    """

    def __init__(self, model: Any, release: bool) -> None:  # noqa: FBT001 - as the decoders of all families
        require_llama(model)
        self._library = _require_fit(model)
        engine = self._library.engine_open(torch.get_num_threads())
        require(bool(engine), "the kernel lends no tiles to this process")
        self._engine = engine
        # Not at the process's end: a thread may be computing then.
        weakref.finalize(self, self._library.engine_close, engine).atexit = False
        config, base = model.config, model.model
        first = base.layers[0].self_attn
        embedding = base.embed_tokens.weight
        self.kv = KVShape(
            len(base.layers), config.num_key_value_heads, first.head_dim, embedding.dtype, embedding.device
        )
        self._tokens = len(embedding)
        self._rotary = base.rotary_emb
        self._angles = self._turns(FIRST_POSITIONS)
        require(2 * self._angles[0].shape[1] == first.head_dim, "positions turn a part of each head only")
        self._kept: list[torch.Tensor] = []
        self._packed = PackedWeights(_numbers(model, self._library.matrix_packed))
        self._layers = (LayerFields * len(base.layers))()
        for fields, layer in zip(self._layers, base.layers, strict=True):
            self._fill(fields, layer)
            if release:
                release_weights(layer)
        self._model = ModelFields(
            layers=len(base.layers), hidden=config.hidden_size, heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads, size=first.head_dim, inner=config.intermediate_size,
            vocabulary=len(model.lm_head.weight), epsilon=config.rms_norm_eps, scale=first.scaling,
            layer=ctypes.addressof(self._layers), embedding=self._keep(embedding), norm=self._number(base.norm.weight),
            head=self._pack(model.lm_head.weight),
        )  # fmt: skip
        self._logits = torch.empty(0, len(model.lm_head.weight))
        self._memory: KVMemory | None = None

    def logits(self, chunks: Chunks, memory: KVMemory) -> Scores:
        self._use(memory)
        tokens, spans, blocks = array("i"), array("i"), array("i")
        longest = 0
        for chunk in chunks:
            stop = chunk.start + chunk.count
            spans.extend((len(tokens), chunk.count, chunk.start, len(blocks)))
            tokens.extend(chunk.sequence.tokens[chunk.start : stop])
            blocks.extend(chunk.sequence.blocks[: blocks_for(stop, memory.block_size)])
            longest = max(longest, stop)
        if min(tokens) < 0 or max(tokens) >= self._tokens:  # some tokenizers have more of them than their model
            raise IndexError(f"the model's tokens are from 0 to {self._tokens - 1}")
        if longest > len(self._angles[0]):
            self._angles = self._turns(max(longest, 2 * len(self._angles[0])))
        if len(chunks) > len(self._logits):
            self._logits = torch.empty(len(chunks), self._logits.shape[1])
        best = array("i", bytes(4 * len(chunks)))
        cosines, sines = self._angles
        step = StepFields(
            rows=len(tokens), spans=len(chunks), tokens=_address(tokens), span=_address(spans),
            blocks=_address(blocks), cosines=cosines.data_ptr(), sines=sines.data_ptr(),
            logits=self._logits.data_ptr(), best=_address(best),
        )  # fmt: skip
        if not self._library.engine_step(self._engine, ctypes.byref(self._model), ctypes.byref(step)):
            raise MemoryError(f"no memory to compute {len(tokens)} tokens")
        return Scores(self._logits[: len(chunks)], best.tolist())

    def _use(self, memory: KVMemory) -> None:
        if memory is self._memory:
            return
        if memory.block_size % TILE:
            raise ValueError(f"blocks have {memory.block_size} tokens, not a multiple of {TILE}")
        self._model.block = memory.block_size
        for fields, keys, values in zip(self._layers, memory.keys, memory.values, strict=True):
            fields.keys, fields.values = keys.data_ptr(), values.data_ptr()
        self._memory = memory

    def _fill(self, fields: LayerFields, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        fields.before_attention = self._number(layer.input_layernorm.weight)
        fields.before_mlp = self._number(layer.post_attention_layernorm.weight)
        if hasattr(attention, "q_norm"):
            fields.query_norm = self._number(attention.q_norm.weight)
            fields.key_norm = self._number(attention.k_norm.weight)
        inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
        fields.qkv = self._pack(torch.cat([each.weight for each in inputs]))
        fields.out = self._pack(attention.o_proj.weight)
        # A panel has a tile of the gate and the tile that it belongs to, so that one thread has both.
        pairs = [each.weight.unflatten(0, (-1, TILE)) for each in (mlp.gate_proj, mlp.up_proj)]
        fields.gate_up = self._pack(torch.stack(pairs, dim=1).flatten(0, 2))
        fields.down = self._pack(mlp.down_proj.weight)
        if attention.q_proj.bias is not None:
            fields.qkv_bias = self._number(torch.cat([each.bias for each in inputs]))
        if attention.o_proj.bias is not None:
            fields.out_bias = self._number(attention.o_proj.bias)

    def _turns(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (position, half of a head), in float32."""
        cosines, sines = self._rotary(torch.zeros(1), torch.arange(positions).unsqueeze(0))
        half = cosines.shape[-1] // 2
        return cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()

    def _keep(self, tensor: torch.Tensor) -> int:
        """Its address, good as long as this decoder."""
        self._kept.append(tensor.detach().contiguous())
        return self._kept[-1].data_ptr()

    def _number(self, weight: torch.Tensor) -> int:
        return self._keep(weight.detach().float())

    def _pack(self, weight: torch.Tensor) -> int:
        """The address of the matrix in panels."""
        matrix = weight.detach().contiguous()
        address = self._packed.take(self._library.matrix_packed(*matrix.shape))
        self._library.matrix_pack(matrix.data_ptr(), *matrix.shape, address)
        return address


def _require_fit(model: Any) -> ctypes.CDLL:
    """The library, if it computes this model here."""
    config, base = model.config, model.model
    size = base.layers[0].self_attn.head_dim
    weight = base.embed_tokens.weight
    require(weight.dtype == torch.bfloat16 and weight.device.type == "cpu", "it is not in bfloat16 on a processor")
    require(config.hidden_act == "silu", f"the activation is {config.hidden_act}")
    require(getattr(base.layers[0].mlp.gate_proj, "bias", None) is None, "the MLP has biases")
    require(model.lm_head.bias is None, "the head has a bias")
    widths: Sequence[int] = (config.hidden_size, config.intermediate_size, size)
    require(not any(each % DEPTH for each in widths), f"one of {widths} is no multiple of {DEPTH}")
    group = config.num_attention_heads // config.num_key_value_heads
    require(size <= MOST_SIZE and group <= MOST_GROUP, f"heads of {size}, {group} for one of keys")
    found = library()
    require(found is not None, "the processor has no tiles, or the library was not made")
    assert found is not None  # noqa: S101 - what `require` has seen
    return found


def _numbers(model: Any, packed: Callable[[int, int], int]) -> int:
    """How many numbers all packed matrices have."""
    count = packed(*model.lm_head.weight.shape)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        inputs = [each.weight for each in (attention.q_proj, attention.k_proj, attention.v_proj)]
        count += packed(sum(map(len, inputs)), inputs[0].shape[1]) + packed(*attention.o_proj.weight.shape)
        inner, hidden = mlp.gate_proj.weight.shape
        count += packed(2 * inner, hidden) + packed(*mlp.down_proj.weight.shape)
    return count


def _address(numbers: "array[int]") -> int:
    return numbers.buffer_info()[0]
