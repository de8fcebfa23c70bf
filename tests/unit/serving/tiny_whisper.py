"""Tiny Whispers with random weights, whole folders as a user would have them. Their windows have 2 s."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)  # fmt: skip

RATE = 16_000
WINDOW_S = 2
TIMES = 50 * WINDOW_S + 1
SPECIAL = [
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|zh|>", "<|translate|>", "<|transcribe|>",
    "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
]  # fmt: skip
POSITIONS = 24


def write_whisper(folder: Path, *, multilingual: bool = False, seed: int = 3, **settings: Any) -> Path:
    """A Whisper in `folder`, for one seed always the same."""
    tokenizer = _tokenizer()
    number = tokenizer.convert_tokens_to_ids
    end, start = number("<|endoftext|>"), number("<|startoftranscript|>")
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=16, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
        max_source_positions=50 * WINDOW_S, max_target_positions=POSITIONS, bos_token_id=end, eos_token_id=end,
        pad_token_id=end, decoder_start_token_id=start, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model: Any = WhisperForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if "encoder.embed_positions" not in name and "layer_norm" not in name:
            torch.nn.init.normal_(parameter, std=1.0 if "embed_positions" in name else 0.3)
    told: dict[str, Any] = {
        "decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end, "max_length": POSITIONS,
        "no_timestamps_token_id": number("<|notimestamps|>"), "prev_sot_token_id": number("<|startofprev|>"),
        "suppress_tokens": [number(name) for name in SPECIAL[1:-1]] + [5, 9], "begin_suppress_tokens": [7, end],
        "max_initial_timestamp_index": 20, "is_multilingual": multilingual, "return_timestamps": False,
    }  # fmt: skip
    if multilingual:
        told["lang_to_id"] = {name: number(name) for name in SPECIAL[2:5]}
        told["task_to_id"] = {name: number(f"<|{name}|>") for name in ("translate", "transcribe")}
    model.generation_config = GenerationConfig(**(told | settings))
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=WINDOW_S).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tone(seconds: float, *, rate: int = RATE, seed: int = 1) -> Any:
    """Float32 samples of something that changes all the time."""
    generator = np.random.default_rng(seed)
    times = np.arange(int(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * generator.uniform(100, 3000) * times * (1 + 0.2 * times)) for _ in range(5))
    return (0.15 * sound + 0.01 * generator.standard_normal(len(times))).astype(np.float32)


def encoded(samples: Any, *, rate: int = RATE, form: str = "WAV", **settings: Any) -> bytes:
    """A file with the samples."""
    file = BytesIO()
    soundfile.write(file, samples, rate, format=form, **settings)
    return file.getvalue()


def _tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["who speaks in the quick brown wood", "grüße aus köln und 東京"], trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(f"<|{0.02 * step:.2f}|>") for step in range(TIMES)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[0], pad_token=SPECIAL[0],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
