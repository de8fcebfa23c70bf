"""Loading a transformers model that answers in one step: local files, safetensors, no remote code."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.models.folder import ModelFolder
from modelyard_serving.models.loading import TRUSTED, failures_told, invalid, load_pretrained

POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")
"""Types whose first position comes after the padding token's number, so that they have fewer than they say."""


@dataclass(frozen=True)
class Encoder:
    """A model on its device and what goes with it."""

    model: Any
    tokenizer: Any
    settings: Any
    max_tokens: int


def import_architecture(folder: ModelFolder, uri: str, auto: Any) -> Any:
    """The model's settings, with the code of its architecture as `auto` has it imported.

    Raises:
        StartFailure: transformers itself has no such model of this type.
    """
    try:
        settings = AutoConfig.from_pretrained(folder.path, **TRUSTED)
        auto._model_mapping[type(settings)]  # noqa: SLF001 - transformers offers no other way to ask
    except KeyError as error:
        raise invalid(uri, f"transformers has no {auto.__name__} of type {settings.model_type}") from error
    except Exception as error:  # the library raises every kind of error for what is wrong in a folder
        raise invalid(uri, f"{type(error).__name__}: {error}") from error
    return settings


def load_encoder(folder: ModelFolder, settings: Any, config: ReplicaConfig, auto: Any) -> Encoder:
    """Read tokenizer and weights, in the type that the weights are stored in.

    Raises:
        StartFailure: no GPU where one was promised, weights that do not fit the architecture, or memory that ends on
            the way.
    """
    model = load_pretrained(folder, settings, config, auto)
    with failures_told(config.model.uri):
        tokenizer = AutoTokenizer.from_pretrained(folder.path, **TRUSTED)
        if tokenizer.is_fast:  # what a file says of cutting and padding is for training
            tokenizer.backend_tokenizer.no_truncation()
            tokenizer.backend_tokenizer.no_padding()
    return Encoder(model, tokenizer, settings, _max_tokens(settings, tokenizer))


def pad(rows: list[list[int]], filler: int, device: Any) -> torch.Tensor:
    """The rows as one tensor, each filled up to the longest."""
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows], device=device)


def _max_tokens(settings: Any, tokenizer: Any) -> int:
    text = settings.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or 512
    if text.model_type in POSITIONS_AFTER_PADDING:
        positions -= (text.pad_token_id or 0) + 1
    return min(int(positions), int(tokenizer.model_max_length))
