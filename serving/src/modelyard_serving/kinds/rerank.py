"""Rerank: cross-encoders, which read a query and a document together, behind /v1/rerank."""

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.http.rerank import RerankEndpoints
from modelyard_serving.kinds.sequence_scores import labels_of, load_scoring
from modelyard_serving.models.folder import ModelFiles
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.rerank import Rerank


class RerankKind:
    """Serves folders whose config.json names a classification head with one label."""

    task = Task.RERANK

    def serves(self, files: ModelFiles) -> bool:
        return labels_of(files) == 1

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        if (labels := labels_of(files)) is not None and labels != 1:
            raise files.invalid(
                f"the model has {labels} labels; a cross-encoder has one: set spec.model.task otherwise"
            )
        scoring = load_scoring(files, config, start)
        task = Rerank(scoring.model, scoring.inputs)
        return Loaded(scoring.model, lambda service: RerankEndpoints(service, task).routes, {"task": self.task})
