"""Loading a Whisper of transformers from a checked folder: local files, safetensors, no remote code."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, WhisperFeatureExtractor
from transformers import WhisperForConditionalGeneration as Whisper
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.models.folder import ModelFiles, ModelFolder
from modelyard_serving.models.loading import TRUSTED, failures_told, invalid, prepare_torch

NAMES: dict[str, str] = dict(LANGUAGES)
"""Languages' English names by code."""


@dataclass(frozen=True)
class LoadedWhisper:
    """A model on its device and what goes with it."""

    model: Any
    tokenizer: Any
    extractor: Any
    generation: Any
    """What generation_config.json says."""

    @property
    def max_length(self) -> int:
        """Tokens of a window beside its prompt, at most."""
        return int(self.generation.max_length or self.model.config.max_target_positions)


def load_whisper(files: ModelFiles, folder: ModelFolder, config: ReplicaConfig) -> LoadedWhisper:
    """Read tokenizer, settings and weights. Numbers of 16 bits that are not bfloat16 become float32 on a CPU.

    Raises:
        StartFailure: no GPU where one was promised, files that are missing or do not fit each other, or memory that
            ends on the way.
    """
    uri = config.model.uri
    prepare_torch(config)
    for name in ("generation_config.json", "preprocessor_config.json"):
        files.read_object(name)
    with failures_told(uri):
        settings = AutoConfig.from_pretrained(folder.path, **TRUSTED)
        tokenizer = AutoTokenizer.from_pretrained(folder.path, **TRUSTED)
        extractor = WhisperFeatureExtractor.from_pretrained(folder.path, local_files_only=True)
        generation = GenerationConfig.from_pretrained(folder.path, local_files_only=True)
        model, report = Whisper.from_pretrained(
            folder.path, config=settings, dtype="auto", use_safetensors=True, output_loading_info=True, **TRUSTED
        )
        if config.device == "cpu" and model.dtype == torch.float16:
            model = model.float()
        model.to(config.device)
    lost = sorted(map(str, report["missing_keys"])) + sorted(map(str, report["mismatched_keys"]))
    if lost:
        raise invalid(uri, f"the weights lack {len(lost)} tensors of the architecture, among them {lost[0]}")
    if getattr(generation, "no_timestamps_token_id", None) is None:
        raise invalid(uri, "generation_config.json has no no_timestamps_token_id, without which there are no times")
    if extractor.feature_size != settings.num_mel_bins:
        raise invalid(uri, f"preprocessor_config.json has {extractor.feature_size} mel bands, "
                           f"config.json {settings.num_mel_bins}")  # fmt: skip
    return LoadedWhisper(model.eval(), tokenizer, extractor, generation)
