"""Text generation: causal language models of transformers behind OpenAI's chat completions and completions."""

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.http.openai import TextEndpoints
from modelyard_serving.models.folder import RUNTIME_BYTES, ModelFiles, check_weights
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.text_generation import TextGeneration

ARCHITECTURES = ("ForCausalLM", "LMHeadModel")


class TextGenerationKind:
    """Serves folders whose config.json names a causal language model."""

    task = Task.TEXT_GENERATION

    def serves(self, files: ModelFiles) -> bool:
        return any(name.endswith(ARCHITECTURES) for name in files.architectures)

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        with start.phase("check"):
            folder = check_weights(files, config.memory_bytes)
        with start.phase("imports"):
            # Here and not above: the import takes seconds and belongs into the ledger of the start.
            from modelyard_serving.engines.choice import choose_engine
            from modelyard_serving.models import causal_lm

            settings = causal_lm.import_architecture(folder, config.model.uri)
        with start.phase("load", bytes=folder.load_bytes):
            loaded = causal_lm.load_causal_lm(folder, settings, config)
        with start.phase("warmup"):
            causal_lm.warm_up(loaded, config.model.uri)
            chosen = choose_engine(
                loaded.model, config, context_length=loaded.context_length, end_tokens=loaded.end_tokens,
                taken_bytes=folder.load_bytes + RUNTIME_BYTES,
            )  # fmt: skip
        start.engine(chosen.engine.name, slower_because=chosen.slower_because)
        text = TextGeneration(chosen.engine, loaded.tokenizer)
        return Loaded(
            text, lambda service: TextEndpoints(service, text).routes, {"task": self.task, "chat": text.can_chat}
        )
