"""Image classification: transformers models that name a class for a picture, behind /v1/classify."""

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.engines.grouping import BatchLimits
from modelyard_serving.http.image_classification import ImageClassificationEndpoints
from modelyard_serving.models.folder import ModelFiles, check_weights
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.classification import activation_of
from modelyard_serving.tasks.image_classification import GivenPicture, ImageClassification
from modelyard_serving.tasks.prepared import PreparingModel

ARCHITECTURE = "ForImageClassification"
BATCH_PICTURES = {"cpu": 8, "cuda": 32}
"""A CPU gains nothing from more, and the first of a batch waits for the last."""


class ImageClassificationKind:
    """Serves folders whose config.json names a head for image classification."""

    task = Task.IMAGE_CLASSIFICATION

    def serves(self, files: ModelFiles) -> bool:
        return any(ARCHITECTURE in name for name in files.architectures)

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        with start.phase("check"):
            folder = check_weights(files, config.memory_bytes)
        with start.phase("imports"):
            # Here and not above: the import takes seconds and belongs into the ledger of the start.
            from transformers import AutoModelForImageClassification as Auto

            from modelyard_serving.models import encoder as encoders
            from modelyard_serving.models import loading, picture_inputs, picture_scores

            settings = encoders.import_architecture(folder, config.model.uri, Auto)
        with start.phase("load", bytes=folder.load_bytes):
            compute = picture_scores.load_picture_scores(folder, settings, config)
        limits = BatchLimits(items=BATCH_PICTURES[config.device])
        with start.phase("warmup"), loading.failures_told(config.model.uri):
            some = compute.inputs.prepare(picture_inputs.some_picture())
            for count in (1, 2, limits.items):
                [row, *_] = compute([some] * count)
        if not (abs(row) < float("inf")).all():
            raise files.invalid("the model computes no numbers (NaN or infinity): the weights are damaged")
        labels = tuple(str(settings.id2label[number]) for number in range(len(settings.id2label)))
        if len(labels) != len(row):
            raise files.invalid(f"config.json has {len(labels)} labels, but the model computes {len(row)} scores")
        engine = DynamicBatchingEngine(compute, config=config.engine, limits=limits)

        def prepare(picture: GivenPicture) -> Item[picture_inputs.Prepared]:
            return Item(picture.read(compute.inputs.prepare), 1)

        model = PreparingModel(engine, Item(some, 1), prepare)
        activation = activation_of(settings.problem_type, len(labels))
        task = ImageClassification(model, labels=labels, activation=activation)
        facts = {"task": self.task, "labels": len(labels)}
        return Loaded(model, lambda service: ImageClassificationEndpoints(service, task).routes, facts)
