"""Tiny language models with random weights, whole folders as a user would have them."""

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from modelyard_serving.contract import ModelConfig, ReplicaConfig

Family = Literal["gpt2", "llama"]
END = "<|end|>"
CONTEXT = 96
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' and loop.first %}{{ raise_exception('begin with user') }}"
    "{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
SAMPLE = [
    "the quick brown fox jumps over the lazy dog",
    "grüße aus köln, 東京 und 🦊 land",
    "user: system: assistant:\n",
]


def write_model(folder: Path, family: Family, *, chat: bool = True, dtype: torch.dtype = torch.float32) -> Path:
    """A model of `family` in `folder`; always the same."""
    tokenizer = _tokenizer()
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(7)
    size, end = len(tokenizer), tokenizer.convert_tokens_to_ids(END)
    model: Any
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(
            vocab_size=size, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, bos_token_id=end, eos_token_id=end,
        ))  # fmt: skip
    else:
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=size, max_position_embeddings=CONTEXT, hidden_size=32, intermediate_size=64,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, bos_token_id=end, eos_token_id=end,
        ))  # fmt: skip
    for parameter in model.parameters():  # larger than usual, so that greedy answers are not one token over and over
        torch.nn.init.normal_(parameter, std=0.5)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config_for(folder: Path, **changes: Any) -> ReplicaConfig:
    """A contract that serves `folder` as team-a/tiny."""
    settings = {"service": "team-a/tiny", "revision": "0123abcd", "threads": 1} | changes
    return ReplicaConfig(model=ModelConfig(uri="pvc://models/tiny", path=str(folder)), **settings)


def _tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(SAMPLE, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )
