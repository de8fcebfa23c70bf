"""The decoder that computes with processor tiles: numbers of the model, the same ones whatever else is in the batch."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.serving.batching.families import CONTEXT, VOCABULARY, tiny_model

from modelyard_serving.engines.batching import tiled_llama
from modelyard_serving.engines.batching.decoder import Decoder, Unsupported, decoder_for
from modelyard_serving.engines.batching.kv_memory import KVMemory
from modelyard_serving.engines.batching.llama import LlamaDecoder
from modelyard_serving.engines.batching.scheduler import Chunk
from modelyard_serving.engines.batching.sequence import Sequence
from modelyard_serving.engines.batching.tiled_llama import TiledLlamaDecoder
from modelyard_serving.engines.batching.tiles import library

BLOCK = 16
PROMPTS = st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=CONTEXT - 1)
needs_tiles = pytest.mark.skipif(library() is None, reason="no processor tiles here, or `make setup` had no compiler")

HALF_TURNED = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}


def _tiled(family: str = "llama", **changes: Any) -> tuple[Any, TiledLlamaDecoder]:
    model = tiny_model(family, **({"heads": 2, "kv_heads": 1, "size": 32} | changes)).to(torch.bfloat16)
    return model, TiledLlamaDecoder(model, release=False)


class _Table:
    """Sequences that are computed chunk by chunk, each in blocks of its own."""

    def __init__(self, decoder: Decoder, sequences: int, *, fill: float = 0) -> None:
        self._decoder = decoder
        each = CONTEXT // BLOCK
        self._memory = KVMemory(decoder.kv, blocks=sequences * each, block_size=BLOCK)
        for stored in (*self._memory.keys, *self._memory.values):
            stored.fill_(fill)
        # Neither side by side nor in order: blocks are looked up.
        self._blocks = [list(range(number, sequences * each, sequences))[::-1] for number in range(sequences)]

    def step(self, parts: list[tuple[int, list[int], int, int]]) -> tuple[torch.Tensor, list[int]]:
        """Compute tokens `start` to `stop` of sequences, given as (number, tokens, start, stop)."""
        chunks = []
        for number, tokens, start, stop in parts:
            sequence = Sequence(tokens, group=None)
            sequence.blocks = self._blocks[number]
            chunks.append(Chunk(sequence, start, stop - start))
        with torch.inference_mode():
            scores = self._decoder.logits(chunks, self._memory)
        return scores.logits.clone(), scores.best


@needs_tiles
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"heads": 6, "kv_heads": 2, "size": 64}),
        ("llama", {"heads": 16, "kv_heads": 1, "size": 32, "attention_bias": True}),
        ("llama", {"heads": 2, "kv_heads": 2, "size": 128}),
        ("mistral", {"heads": 4, "kv_heads": 1, "size": 96}),
        ("qwen2", {"heads": 9, "kv_heads": 3, "size": 32}),
        ("qwen3", {"heads": 4, "kv_heads": 2, "size": 64}),
    ],
)
def test_the_numbers_are_the_model_s(family: str, changes: dict[str, Any]) -> None:
    model = tiny_model(family, **changes)
    for weight in model.parameters():
        weight.data.mul_(0.2 if weight.dim() > 1 else 1)  # so small that roundings do not grow from layer to layer
    decoder = TiledLlamaDecoder(model.to(torch.bfloat16), release=False)
    prompts = [[(7 * place + number) % VOCABULARY for place in range(90)] for number in range(3)]
    table = _Table(decoder, 3)
    table.step([(0, prompts[0], 0, 70), (1, prompts[1], 0, 5)])
    seen, best = table.step([(0, prompts[0], 70, 71), (1, prompts[1], 5, 90), (2, prompts[2], 0, 33)])
    exact = copy.deepcopy(model).float()
    with torch.inference_mode():
        for row, (prompt, length) in enumerate(zip(prompts, (71, 90, 33), strict=True)):
            right = exact(torch.tensor([prompt[:length]])).logits[0, -1]
            inexact = model(torch.tensor([prompt[:length]])).logits[0, -1].float()
            # Closer to the exact numbers than the model itself in bfloat16: fewer things are rounded.
            assert (seen[row] - right).norm() < (inexact - right).norm()
            assert best[row] == int(seen[row].argmax())


@needs_tiles
@settings(max_examples=5, deadline=None)
@given(
    prompts=st.lists(
        st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=CONTEXT - 1), min_size=1, max_size=5
    ),
    cuts=st.lists(st.integers(1, 60), min_size=5, max_size=5),
    heads=st.sampled_from([(2, 1), (3, 3), (6, 2)]),
)
def test_what_else_is_in_the_batch_changes_no_bit(
    prompts: list[list[int]], cuts: list[int], heads: tuple[int, int]
) -> None:
    _, decoder = _tiled(heads=heads[0], kv_heads=heads[1])
    alone = [_Table(decoder, 1).step([(0, prompt, 0, len(prompt))])[0][0] for prompt in prompts]
    table = _Table(decoder, len(prompts), fill=float("nan"))  # what others have left there is nobody's
    done = [0] * len(prompts)
    while any(start < len(prompt) for start, prompt in zip(done, prompts, strict=True)):
        parts = []
        for number, prompt in enumerate(prompts):
            if done[number] < len(prompt):
                stop = min(done[number] + cuts[number], len(prompt))
                parts.append((number, prompt, done[number], stop))
                done[number] = stop
        seen, _ = table.step(parts)
        for row, (number, prompt, _, stop) in enumerate(parts):
            if stop == len(prompt):
                assert torch.equal(seen[row], alone[number])


@needs_tiles
def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        _, decoder = _tiled()
        seen.append(_Table(decoder, 1).step([(0, list(range(80)), 0, 80)])[0])
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


@needs_tiles
def test_positions_beyond_the_first_are_turned_as_the_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = list(range(80))
    expected = _Table(_tiled()[1], 1).step([(0, prompt, 0, 80)])[0]
    monkeypatch.setattr(tiled_llama, "FIRST_POSITIONS", 8)
    assert torch.equal(_Table(_tiled()[1], 1).step([(0, prompt, 0, 80)])[0], expected)


@needs_tiles
@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"size": 16, "heads": 4}, "no multiple of 32"),
        ({"size": 160}, "heads of 160"),
        ({"heads": 17, "kv_heads": 1, "size": 32}, "17 for one of keys"),
        ({"hidden_act": "gelu"}, "activation is gelu"),
        ({"mlp_bias": True}, "biases"),
        ({"rope_parameters": HALF_TURNED}, "a part of each head"),
    ],
)
def test_what_does_not_fit_into_tiles_is_computed_by_torch(changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(Unsupported, match=cause):
        _tiled(**changes)
    model = tiny_model("llama", **({"heads": 2, "kv_heads": 1, "size": 32} | changes)).to(torch.bfloat16)
    assert type(decoder_for(model)) is LlamaDecoder


@needs_tiles
@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_a_token_that_the_model_has_not_is_refused_before_its_row_is_read(token: int) -> None:
    with pytest.raises(IndexError, match=f"model's tokens are from 0 to {VOCABULARY - 1}"):
        _Table(_tiled()[1], 1).step([(0, [1, token, 1], 0, 3)])


@needs_tiles
def test_blocks_that_do_not_hold_whole_tiles_are_refused() -> None:
    _, decoder = _tiled()
    sequence = Sequence([1], group=None)
    sequence.blocks = [0]
    with pytest.raises(ValueError, match="24 tokens, not a multiple of 16"):
        decoder.logits([Chunk(sequence, 0, 1)], KVMemory(decoder.kv, blocks=1, block_size=24))


def test_without_the_library_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_llama, "library", lambda: None)
    model = tiny_model("llama", heads=2, kv_heads=1, size=32).to(torch.bfloat16)
    assert type(decoder_for(model)) is LlamaDecoder
