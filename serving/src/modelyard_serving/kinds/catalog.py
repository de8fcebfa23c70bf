"""Every task that there is, and which of them a folder is for."""

from modelyard_serving.contract import FailureReason, ModelConfig, Task
from modelyard_serving.failure import StartFailure
from modelyard_serving.kinds.embeddings import EmbeddingsKind
from modelyard_serving.kinds.image_classification import ImageClassificationKind
from modelyard_serving.kinds.kind import TaskKind
from modelyard_serving.kinds.recommend import RecommendKind
from modelyard_serving.kinds.rerank import RerankKind
from modelyard_serving.kinds.speech_recognition import SpeechRecognitionKind
from modelyard_serving.kinds.tensor import TensorKind
from modelyard_serving.kinds.text_classification import TextClassificationKind
from modelyard_serving.kinds.text_generation import TextGenerationKind
from modelyard_serving.models.folder import ModelFiles

KINDS: tuple[TaskKind, ...] = (
    TensorKind(), RecommendKind(), EmbeddingsKind(), TextClassificationKind(), RerankKind(), ImageClassificationKind(),
    SpeechRecognitionKind(), TextGenerationKind(),
)  # fmt: skip
"""In the order in which they are asked; the first that serves a folder has it."""


def choose_kind(model: ModelConfig, files: ModelFiles) -> TaskKind:
    """The kind of modelyard.yaml or of `spec.model.task`, or else the one that the folder's files speak of.

    Raises:
        StartFailure: the two name different tasks, or none is named and the files tell none.
    """
    task = _named_task(model, files)
    for kind in KINDS:
        if kind.task is task or (task is None and kind.serves(files)):
            return kind
    known = ", ".join(Task)
    raise StartFailure(
        FailureReason.MODEL_INVALID,
        f"{model.uri}: {files.describe()}, which tells no task; set spec.model.task to one of: {known}",
    )


def _named_task(model: ModelConfig, files: ModelFiles) -> Task | None:
    packaged = None if files.package is None else files.package.task
    if packaged is not None and model.task not in (None, packaged):
        raise files.invalid(f"modelyard.yaml is for the task {packaged}; leave spec.model.task ({model.task}) out")
    return packaged or model.task
