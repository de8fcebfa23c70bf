"""From a model's hidden states to one vector for each text, as the folder's own files say.

The layout is that of sentence-transformers: modules.json lists the steps after the transformer, each with a folder of
its own. A plain transformers folder says nothing; it gets what sentence-transformers gives such a model: the mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file

from modelyard_serving.models.encoder import Encoder, pad
from modelyard_serving.models.folder import ModelFiles

MODULES_FILE = "modules.json"
Step = Callable[[torch.Tensor], torch.Tensor]
"""From pooled vectors to vectors."""

Tokens = list[int]


@dataclass(frozen=True)
class EmbeddingSettings:
    """What the files say of texts and vectors."""

    pooling: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    normalizes: bool = False
    max_tokens: int | None = None
    lower_case: bool = False
    prefix: str = ""
    """The model's default prompt, before each text."""
    dimensions: tuple[int, ...] | None = ()
    """Shorter vectors that the model is trained for; None: any."""


POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_embedding_settings(files: ModelFiles, device: str) -> EmbeddingSettings:
    """The steps of modules.json and the settings beside it.

    Raises:
        StartFailure: a file is missing or damaged, or speaks of a step that is not known here.
    """
    config = files.config
    shorter = config.get("matryoshka_dimensions")
    dimensions = None if config.get("is_matryoshka") and not shorter else tuple(shorter or ())
    if not files.has(MODULES_FILE):
        return EmbeddingSettings(("mean",), dimensions=dimensions)
    pooling: tuple[str, ...] = ()
    steps: list[Step] = []
    normalizes = False
    for module in _modules(files):
        kind, folder = str(module.get("type")).rpartition(".")[2], str(module.get("path"))
        match kind:
            case "Transformer" if not folder:
                pass
            case "Pooling" if not pooling:
                pooling = _pooling(files, folder)
            case "Normalize":
                normalizes = True
            case "Dense":
                steps.append(_dense(files, folder, device))
            case _:
                raise files.invalid(f"{MODULES_FILE} has the step {kind} in {folder or 'the root'}, which is not known")
    if not pooling:
        raise files.invalid(f"{MODULES_FILE} has no Pooling")
    text = files.read_object("sentence_bert_config.json") if files.has("sentence_bert_config.json") else {}
    return EmbeddingSettings(
        pooling, tuple(steps), normalizes, text.get("max_seq_length"), bool(text.get("do_lower_case")), _prefix(files),
        dimensions,
    )  # fmt: skip


class SentenceEmbedding:
    """Computes the vectors of a batch of tokenized texts."""

    def __init__(self, encoder: Encoder, settings: EmbeddingSettings) -> None:
        self._model = encoder.model
        self._padding = encoder.tokenizer.pad_token_id or 0
        self._settings = settings

    def __call__(self, batch: Sequence[Tokens]) -> list[Any]:
        """A float32 numpy vector for each text."""
        device = self._model.device
        with torch.inference_mode():
            tokens = pad(list(batch), self._padding, device)
            mask = pad([[1] * len(row) for row in batch], 0, device)
            hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
            vectors = torch.cat([pool(hidden, mask, mode) for mode in self._settings.pooling], dim=1)
            for step in self._settings.steps:
                vectors = step(vectors)
            vectors = vectors.float()
            if self._settings.normalizes:
                vectors = torch.nn.functional.normalize(vectors, dim=1)
            return list(vectors.cpu().numpy())


def pool(hidden: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    """One vector a row out of those of its tokens; what the mask leaves out changes nothing."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    match mode:
        case "cls":
            return hidden[:, 0]
        case "max":
            return hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(1)
        case "lasttoken":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
        case "weightedmean":
            weights = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
        case _:
            pass
    total = (hidden * weights).sum(1)
    return total / (weights.sum(1).sqrt() if mode == "mean_sqrt_len_tokens" else weights.sum(1))


def _modules(files: ModelFiles) -> list[dict[str, Any]]:
    modules = files.read_json(MODULES_FILE)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise files.invalid(f"{MODULES_FILE} is not a list of objects")
    return modules


def _pooling(files: ModelFiles, folder: str) -> tuple[str, ...]:
    name = f"{folder}/config.json"
    config = files.read_object(name)
    named = config.get("pooling_mode")
    modes = (named,) if isinstance(named, str) else tuple(named or ())
    modes = modes or tuple(mode for key, mode in POOLING_MODES.items() if config.get(key))
    if not modes or not set(modes) <= set(POOLING_MODES.values()):
        raise files.invalid(f"{name} names no pooling, or one that is not known: {', '.join(modes)}")
    if config.get("include_prompt") is False and _prefix(files):
        raise files.invalid(f"{name} leaves the prompt out of the pooling, which is not offered; set include_prompt")
    return modes


def _dense(files: ModelFiles, folder: str, device: str) -> Step:
    config = files.read_object(f"{folder}/config.json")
    activation = str(config.get("activation_function")).rpartition(".")[2]
    if activation not in ("Tanh", "Identity", "GELU", "ReLU", "Sigmoid"):
        raise files.invalid(f"{folder}/config.json has the activation {activation}, which is not known")
    try:
        weights = load_file(files.path / folder / "model.safetensors", device=device)
        matrix, bias = weights["linear.weight"], weights.get("linear.bias")
    except Exception as error:
        raise files.invalid(f"{folder}/model.safetensors cannot be read: {error}") from error
    activate = getattr(torch.nn, activation)()

    def step(vectors: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = activate(torch.nn.functional.linear(vectors.to(matrix.dtype), matrix, bias))
        return activated

    return step


def _prefix(files: ModelFiles) -> str:
    name = "config_sentence_transformers.json"
    if not files.has(name):
        return ""
    config = files.read_object(name)
    return str((config.get("prompts") or {}).get(config.get("default_prompt_name")) or "")
