"""Embeddings: encoders of transformers, in the layout of sentence-transformers or plain, behind /v1/embeddings."""

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.http.embeddings import EmbeddingEndpoints
from modelyard_serving.http.open_inference import OpenInferenceEndpoints
from modelyard_serving.models.folder import ModelFiles, check_weights
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.embeddings import Embeddings
from modelyard_serving.tasks.text_inputs import TextInputs
from modelyard_serving.tasks.text_tensors import EmbeddingTensors

PROOF_TEXT = "the quick brown fox"
WITH_HEADS = ("LMHeadModel", "DoubleHeadsModel")
WARM_SHAPES = ((1, 8), (1, 32), (1, 128), (8, 16), (8, 64), (32, 32))
"""Rows and tokens of the batches that are computed before the first request."""


class EmbeddingsKind:
    """Serves folders with modules.json, and those whose config.json names a bare encoder such as BertModel."""

    task = Task.EMBEDDINGS

    def serves(self, files: ModelFiles) -> bool:
        bare = (name for name in files.architectures if name.endswith("Model") and not name.endswith(WITH_HEADS))
        return files.has("modules.json") or any(bare)

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        with start.phase("check"):
            folder = check_weights(files, config.memory_bytes)
        with start.phase("imports"):
            # Here and not above: the import takes seconds and belongs into the ledger of the start.
            from transformers import AutoModel

            from modelyard_serving.models import encoder as encoders
            from modelyard_serving.models import loading, sentence_embedding

            settings = encoders.import_architecture(folder, config.model.uri, AutoModel)
        with start.phase("load", bytes=folder.load_bytes):
            encoder = encoders.load_encoder(folder, settings, config, AutoModel)
            embedding = sentence_embedding.read_embedding_settings(files, config.device)
        max_tokens = min(encoder.max_tokens, embedding.max_tokens or encoder.max_tokens)
        compute = sentence_embedding.SentenceEmbedding(encoder, embedding)
        with start.phase("warmup"), loading.failures_told(config.model.uri):
            some: list[int] = encoder.tokenizer(PROOF_TEXT)["input_ids"]
            for rows, tokens in WARM_SHAPES:
                [vector, *_] = compute([(some * tokens)[: min(tokens, max_tokens)]] * rows)
        if not (abs(vector) < float("inf")).all():
            raise files.invalid("the model computes no numbers (NaN or infinity): the weights are damaged")
        engine = DynamicBatchingEngine(compute, config=config.engine)
        model = BatchedModel(engine, Item(some, len(some)), len(some))
        inputs = TextInputs(
            encoder.tokenizer, max_tokens=max_tokens, prefix=embedding.prefix, lower_case=embedding.lower_case
        )
        task = Embeddings(
            model, inputs, dimensions=len(vector), normalizes=embedding.normalizes, shorter=embedding.dimensions
        )
        facts = {"task": self.task, "dimensions": len(vector)}
        return Loaded(model, lambda service: [
            *EmbeddingEndpoints(service, task).routes, *OpenInferenceEndpoints(service, EmbeddingTensors(task)).routes,
        ], facts)  # fmt: skip
