"""Whisper's forward pass on the weights of a loaded transformers model: packed matrices, keys and values in place."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from modelyard_serving.engines.batching.linear import Linear


class _Attention:
    """One attention: queries of their own, or queries, keys and values from the same input."""

    def __init__(self, module: Any, *, crossed: bool) -> None:
        self._heads = module.num_heads
        query, key, value = module.q_proj, module.k_proj, module.v_proj
        silent = torch.zeros_like(value.bias)
        if crossed:
            self.queries = Linear([query.weight], [query.bias])
            self.sources = Linear([key.weight, value.weight], [silent, value.bias])
        else:
            self.queries = Linear([query.weight, key.weight, value.weight], [query.bias, silent, value.bias])
        self._out = Linear([module.out_proj.weight], [module.out_proj.bias])

    def split(self, rows: torch.Tensor, parts: int) -> Sequence[torch.Tensor]:
        """(batch, positions, parts x size) as `parts` tensors (batch, heads, positions, size of a head)."""
        batch, positions, _ = rows.shape
        return rows.view(batch, positions, parts, self._heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def look(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self._out(found.transpose(1, 2).flatten(2))


class _Layer:
    def __init__(self, module: Any) -> None:
        self.attention = _Attention(module.self_attn, crossed=False)
        self.norm = module.self_attn_layer_norm
        self._last_norm = module.final_layer_norm
        self._wide = Linear([module.fc1.weight], [module.fc1.bias])
        self._narrow = Linear([module.fc2.weight], [module.fc2.bias])
        self._activation = module.activation_fn

    def feed(self, hidden: torch.Tensor) -> torch.Tensor:
        wide = self._activation(self._wide(self._last_norm(hidden)))
        return hidden + self._narrow(wide)


class _CrossedLayer(_Layer):
    """One that looks at the sound as well."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.crossed = _Attention(module.encoder_attn, crossed=True)
        self.crossed_norm = module.encoder_attn_layer_norm


class Memory:
    """Keys and values of a batch: those of the sound, and those of the tokens as they come."""

    def __init__(self, sound: list[tuple[torch.Tensor, torch.Tensor]], length: int, padding: torch.Tensor) -> None:
        """`padding` (batch) is the number of fillers before each row's own tokens, of which there are `length`."""
        key, _ = sound[0]
        batch, heads, _, size = key.shape
        self.sound = sound
        self.tokens = [(key.new_empty(batch, heads, length, size), key.new_empty(batch, heads, length, size))
                       for _ in sound]  # fmt: skip
        self.padding = padding
        self.padded = bool(padding.any())
        self.used = 0

    def keep(self, rows: torch.Tensor) -> None:
        """Only these rows of the batch go on."""
        self.sound = [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in self.sound]
        self.tokens = [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in self.tokens]
        self.padding = self.padding.index_select(0, rows)


class WhisperNetwork:
    """The two halves of the model; the caller is in inference mode."""

    def __init__(self, model: Any) -> None:
        encoder, decoder = model.model.encoder, model.model.decoder
        self.frames: int = 2 * model.config.max_source_positions
        self.positions: int = model.config.max_target_positions
        self._encoder, self._decoder = encoder, decoder
        self._encoding = [_Layer(layer) for layer in encoder.layers]
        self._decoding = [_CrossedLayer(layer) for layer in decoder.layers]
        self._vocabulary = Linear([model.proj_out.weight], [None])
        self._scale = math.sqrt(model.config.d_model) if model.config.scale_embedding else 1.0
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype

    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """From (batch, mel bands, frames) to (batch, half as many positions, size)."""
        hidden = functional.gelu(self._encoder.conv1(features.to(self.device, self.dtype)))
        hidden = functional.gelu(self._encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self._encoder.embed_positions.weight
        for layer in self._encoding:
            attention = layer.attention
            query, key, value = attention.split(attention.queries(layer.norm(hidden)), 3)
            hidden = layer.feed(hidden + attention.look(query, key, value))
        encoded: torch.Tensor = self._encoder.layer_norm(hidden)
        return encoded

    def remember(self, encoded: torch.Tensor, length: int, padding: torch.Tensor) -> Memory:
        """The memory for so many tokens about this sound."""
        sound = []
        for layer in self._decoding:
            key, value = layer.crossed.split(layer.crossed.sources(encoded), 2)
            sound.append((key.contiguous(), value.contiguous()))
        return Memory(sound, length, padding)

    def read(self, tokens: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Take in the next tokens (batch, new) of each row; hidden states (batch, new, size) for `logits`."""
        begin, end = memory.used, memory.used + tokens.shape[1]
        memory.used = end
        places = torch.arange(begin, end, device=self.device)
        positions = (places - memory.padding.unsqueeze(1)).clamp_(min=0)
        hidden = self._decoder.embed_tokens(tokens) * self._scale + self._decoder.embed_positions.weight[positions]
        mask = self._mask(places, memory) if memory.padded or begin + 1 < end else None
        for layer, (sound_keys, sound_values), (keys, values) in zip(
            self._decoding, memory.sound, memory.tokens, strict=True
        ):
            attention, crossed = layer.attention, layer.crossed
            query, key, value = attention.split(attention.queries(layer.norm(hidden)), 3)
            keys[:, :, begin:end], values[:, :, begin:end] = key, value
            hidden = hidden + attention.look(query, keys[:, :, :end], values[:, :, :end], mask)
            (query,) = crossed.split(crossed.queries(layer.crossed_norm(hidden)), 1)
            hidden = layer.feed(hidden + crossed.look(query, sound_keys, sound_values))
        read: torch.Tensor = self._decoder.layer_norm(hidden)
        return read

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 (rows, vocabulary) of hidden states (rows, size)."""
        return self._vocabulary(hidden).float()

    def _mask(self, places: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Which tokens each of `places` sees: none that comes later, and no filler but itself (a row that sees
        nothing would compute no number, which no weight of zero takes away)."""
        known = torch.arange(memory.used, device=self.device)
        filler = known < memory.padding.view(-1, 1, 1)
        itself = known == places.unsqueeze(1)
        seen = (known <= places.unsqueeze(1)) & ~filler | itself
        hidden = torch.zeros(seen.shape, dtype=self.dtype, device=self.device).masked_fill_(~seen, -math.inf)
        return hidden.unsqueeze(1)
