"""Speech recognition: Whisper models of transformers behind OpenAI's endpoints for transcriptions and translations."""

import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.engines.grouping import BatchLimits
from modelyard_serving.engines.speech.window import SpeechTokens, Window
from modelyard_serving.http.transcription import TranscriptionEndpoints
from modelyard_serving.models.folder import RUNTIME_BYTES, ModelFiles, check_weights
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.speech import Ears, Languages, SpeechRecognition

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "WhisperForConditionalGeneration"
BATCH = BatchLimits(items=8)
"""Windows that are computed together."""
STUCK_AFTER_S = 600.0
"""A large model takes minutes for a batch on a CPU."""
PROOF_TOKENS = 4
WARM_WINDOWS = (1, 2)


class SpeechRecognitionKind:
    """Serves folders whose config.json names Whisper."""

    task = Task.AUTOMATIC_SPEECH_RECOGNITION

    def serves(self, files: ModelFiles) -> bool:
        return ARCHITECTURE in files.architectures

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        with start.phase("check"):
            if not self.serves(files):
                raise files.invalid(f"{files.describe()}; {self.task} is served by {ARCHITECTURE}")
            folder = check_weights(files, config.memory_bytes)
        with start.phase("imports"):
            # Here and not above: the import takes seconds and belongs into the ledger of the start.
            from modelyard_serving.engines.speech.network import WhisperNetwork
            from modelyard_serving.engines.speech.transcriber import Transcriber
            from modelyard_serving.models import loading, whisper
            from modelyard_serving.tasks.log_mel import LogMel
            from modelyard_serving.tasks.sound import read_sound
        with start.phase("load", bytes=folder.load_bytes):
            loaded = whisper.load_whisper(files, folder, config)
            with loading.failures_told(config.model.uri):
                tokens = _tokens(loaded.generation)
                network = WhisperNetwork(loaded.model)
                vocabulary = int(loaded.model.config.vocab_size)
                compute = Transcriber(network, tokens, vocabulary=vocabulary, max_length=loaded.max_length)
        log_mel = LogMel(loaded.extractor)

        def listen(file: BinaryIO, abandoned: threading.Event) -> "torch.Tensor":
            return log_mel(read_sound(file, log_mel.rate, abandoned))

        with start.phase("warmup"), loading.failures_told(config.model.uri):
            proof = Window(log_mel([_silence(log_mel.rate)]), (tokens.start,), max_tokens=PROOF_TOKENS)
            for windows in WARM_WINDOWS:
                compute([proof] * windows)
        engine = DynamicBatchingEngine(compute, config=config.engine, limits=BATCH, stuck_after_s=STUCK_AFTER_S)
        model = BatchedModel(engine, Item(proof, 1), PROOF_TOKENS)
        languages = _languages(loaded.generation, whisper.NAMES)
        prompt_tokens = network.positions // 2 - 1
        left = config.memory_bytes and config.memory_bytes - folder.load_bytes - RUNTIME_BYTES
        ears = Ears(listen, loaded.tokenizer, tokens, languages, network.frames, prompt_tokens, left)
        task = SpeechRecognition(model, ears)
        facts = {"task": self.task, "languages": len(languages.tokens) if languages else 1}
        return Loaded(model, lambda service: TranscriptionEndpoints(service, task).routes, facts)


def _silence(samples: int) -> Any:
    import numpy as np

    return np.zeros(samples, dtype=np.float32)


def _tokens(generation: Any) -> SpeechTokens:
    """What generation_config.json says of the tokens."""
    end = generation.eos_token_id
    return SpeechTokens(
        start=generation.decoder_start_token_id,
        end=end[0] if isinstance(end, list) else end,
        previous=getattr(generation, "prev_sot_token_id", None),
        no_timestamps=generation.no_timestamps_token_id,
        suppressed=tuple(getattr(generation, "suppress_tokens", None) or ()),
        suppressed_first=tuple(getattr(generation, "begin_suppress_tokens", None) or ()),
        last_first_timestamp=getattr(generation, "max_initial_timestamp_index", None),
    )


def _languages(generation: Any, names: dict[str, str]) -> Languages | None:
    """None where the model knows but one."""
    known, tasks = getattr(generation, "lang_to_id", None), getattr(generation, "task_to_id", None)
    if not known or not tasks or getattr(generation, "is_multilingual", True) is False:
        return None
    tokens = {str(code).strip("<|>"): int(token) for code, token in known.items()}
    return Languages(tokens, names, int(tasks["transcribe"]), int(tasks["translate"]))
