"""Loading a causal language model of transformers from a checked folder: local files, safetensors, no remote code."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.models.folder import ModelFolder
from modelyard_serving.models.loading import TRUSTED, failures_told, invalid, prepare_torch


@dataclass(frozen=True)
class CausalLM:
    """A model on its device and what goes with it."""

    model: Any
    tokenizer: Any
    context_length: int
    end_tokens: frozenset[int]


def import_architecture(folder: ModelFolder, uri: str) -> Any:
    """The model's settings, with the code of its architecture imported: most of what a start imports comes with it.

    Raises:
        StartFailure: transformers itself has no causal language model of this type.
    """
    try:
        settings = AutoConfig.from_pretrained(folder.path, **TRUSTED)
        MODEL_FOR_CAUSAL_LM_MAPPING[type(settings)]
    except KeyError as error:
        raise invalid(uri, f"transformers has no causal language model of type {settings.model_type}") from error
    except Exception as error:  # the library raises every kind of error for what is wrong in a folder
        raise invalid(uri, f"{type(error).__name__}: {error}") from error
    return settings


def load_causal_lm(folder: ModelFolder, settings: Any, config: ReplicaConfig) -> CausalLM:
    """Read tokenizer and weights, in the type that the weights are stored in.

    Raises:
        StartFailure: no GPU where one was promised, weights that do not fit the architecture, or memory that ends on
            the way.
    """
    uri = config.model.uri
    prepare_torch(config)
    with failures_told(uri):
        tokenizer = AutoTokenizer.from_pretrained(folder.path, **TRUSTED)
        model, report = AutoModelForCausalLM.from_pretrained(
            folder.path, config=settings, dtype="auto", use_safetensors=True, output_loading_info=True, **TRUSTED
        )
        model.to(config.device)
    lost = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lost:
        raise invalid(uri, f"the weights lack {len(lost)} tensors of the architecture, among them {lost[0]}")
    context = getattr(settings.get_text_config(), "max_position_embeddings", None)
    if not context:
        raise invalid(uri, "config.json does not say the context length (max_position_embeddings)")
    return CausalLM(model.eval(), tokenizer, int(context), _end_tokens(model))


def warm_up(loaded: CausalLM, uri: str) -> None:
    """A prompt and a step, so that the first user does not pay for what is set up on first use.

    Raises:
        StartFailure: the model computes something that is not a number.
    """
    with torch.inference_mode():
        device = loaded.model.device
        first = loaded.model(input_ids=torch.zeros((1, 8), dtype=torch.long, device=device), use_cache=True)
        token = first.logits[:, -1:].argmax(-1)
        second = loaded.model(input_ids=token, past_key_values=first.past_key_values, use_cache=True)
    if not bool(torch.isfinite(second.logits).all()):
        raise invalid(uri, "the model computes no numbers (NaN or infinity): the weights are damaged")


def _end_tokens(model: Any) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset(ends if isinstance(ends, list) else [ends])
