"""Text classification: transformers models with a classification head behind /v1/classify."""

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.http.classification import ClassificationEndpoints
from modelyard_serving.http.open_inference import OpenInferenceEndpoints
from modelyard_serving.kinds.sequence_scores import labels_of, load_scoring
from modelyard_serving.models.folder import ModelFiles
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.classification import TextClassification, activation_of
from modelyard_serving.tasks.text_tensors import ClassificationTensors


class TextClassificationKind:
    """Serves folders whose config.json names a classification head with more than one label."""

    task = Task.TEXT_CLASSIFICATION

    def serves(self, files: ModelFiles) -> bool:
        return (labels_of(files) or 0) > 1

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        scoring = load_scoring(files, config, start)
        names = scoring.settings.id2label
        labels = tuple(str(names[number]) for number in range(len(names)))
        activation = activation_of(scoring.settings.problem_type, len(labels))
        task = TextClassification(scoring.model, scoring.inputs, labels=labels, activation=activation)
        facts = {"task": self.task, "labels": len(labels)}
        tensors = ClassificationTensors(task, len(labels))
        return Loaded(scoring.model, lambda service: [
            *ClassificationEndpoints(service, task).routes, *OpenInferenceEndpoints(service, tensors).routes,
        ], facts)  # fmt: skip
