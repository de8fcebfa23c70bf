"""A small GPT-2, trained in about a minute on the reference pages that come with Python itself.

It is for tests that need a real model which loads in a moment; it writes something like Python's docs.
It has no chat template on purpose, as GPT-2 has none.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard_hack.step import step

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

VERSION = "gpt2-small 1"
SEED = 20
VOCABULARY = 4096
CONTEXT = 512
BATCH, LENGTH, STEPS = 16, 128, 400
END = "<|endoftext|>"


def build(folder: Path) -> None:
    """Train and fill `folder` with config, weights and tokenizer; the same seed makes the same model."""
    pages = _pages()
    with step(f"train a tokenizer on {sum(map(len, pages)) // 1000} kB of text"):
        tokenizer = _train_tokenizer(pages)
    with step(f"train {STEPS} steps of {BATCH} x {LENGTH} tokens"):
        model = _train(tokenizer, pages)
    with step("save as safetensors"):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _pages() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def _train_tokenizer(pages: list[str]) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(pages, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END, pad_token=END,
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _train(tokenizer: PreTrainedTokenizerFast, pages: list[str]) -> GPT2LMHeadModel:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(SEED)
    end = tokenizer.convert_tokens_to_ids(END)
    corpus = torch.tensor([token for page in pages for token in [*tokenizer.encode(page), end]])
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=192, n_layer=2, n_head=6,
        bos_token_id=end, eos_token_id=end,
    ))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=STEPS)
    begin = time.monotonic()
    for number in range(1, STEPS + 1):
        # Some batches are drawn from the whole context, so that late positions are trained too.
        length, rows = (CONTEXT, BATCH * LENGTH // CONTEXT) if number % 4 == 0 else (LENGTH, BATCH)
        starts = torch.randint(0, len(corpus) - length, (rows,)).tolist()
        batch = torch.stack([corpus[start : start + length] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if number % 100 == 0:
            spent = time.monotonic() - begin
            print(
                f"\n    step {number}: loss {loss.item():.2f}, {spent:.0f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )
    return model
