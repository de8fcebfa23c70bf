"""Tiny models of every family that the batching engine knows, with random weights."""

from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

torch.set_num_threads(1)  # tiny matrices are slower with more
VOCABULARY = 120
CONTEXT = 96
FAMILIES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
LLAMAS = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def tiny_model(
    family: str, *, layers: int = 2, heads: int = 4, kv_heads: int = 2, size: int = 8, seed: int = 7, **changes: Any
) -> Any:
    """A model in float32 whose heads have `size` numbers each; weights so large that answers vary."""
    torch.manual_seed(seed)
    model: Any
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(
            vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=heads * size, n_layer=layers, n_head=heads,
            bos_token_id=0, eos_token_id=0, **changes,
        ))  # fmt: skip
    else:
        settings, kind = LLAMAS[family]
        changes = {"head_dim": size} | changes if family != "qwen2" else changes
        model = kind(settings(
            vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=heads * size,
            intermediate_size=3 * size, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=kv_heads, bos_token_id=0, eos_token_id=0, pad_token_id=0, **changes,
        ))  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def generate(model: Any, prompt: tuple[int, ...], count: int) -> list[int]:
    """What transformers itself answers, greedily."""
    output = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return [int(token) for token in output[0, len(prompt) :]]
