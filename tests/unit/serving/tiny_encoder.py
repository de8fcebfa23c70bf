"""Tiny encoders with random weights, whole folders as a user would have them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = [
    "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "model", "serves", "texts", "to", "many", "clients",
    "at", "once", "and", "never", "waits",
]  # fmt: skip
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
CONTEXT = 64
SIZE = 32


def write_encoder(folder: Path, *, labels: dict[int, str] | None = None, **settings: Any) -> Path:
    """A BERT in `folder`, always the same: bare, or with a head that has `labels`."""
    tokenizer = _tokenizer()
    torch.manual_seed(11)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=SIZE, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=CONTEXT, pad_token_id=0, **settings,
    )  # fmt: skip
    if labels is not None:
        config.id2label, config.label2id = labels, {name: number for number, name in labels.items()}
    model: Any = BertModel(config) if labels is None else BertForSequenceClassification(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_modules(folder: Path, pooling: dict[str, Any], *, normalize: bool = True, dense: bool = False) -> None:
    """Make a folder one of sentence-transformers."""
    names = ["Pooling", *(["Dense"] if dense else []), *(["Normalize"] if normalize else [])]
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for place, name in enumerate(names, start=1):
        kind = f"sentence_transformers.models.{name}"
        modules.append({"idx": place, "name": str(place), "path": f"{place}_{name}", "type": kind})
        (folder / f"{place}_{name}").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": SIZE} | pooling))
    if dense:
        torch.manual_seed(5)
        config = {"in_features": SIZE, "out_features": 8, "activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
        weights = {"linear.weight": torch.randn(8, SIZE), "linear.bias": torch.randn(8)}
        save_file(weights, folder / "2_Dense" / "model.safetensors")


def _tokenizer() -> Any:
    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip
