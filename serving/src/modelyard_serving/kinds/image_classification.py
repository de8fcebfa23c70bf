"""Image classification: models that name a class for a picture, behind /v1/classify."""

from typing import TYPE_CHECKING

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.http.image_classification import ImageClassificationEndpoints
from modelyard_serving.http.open_inference import OpenInferenceEndpoints
from modelyard_serving.kinds.picture_network import load_exported, load_transformers
from modelyard_serving.models.folder import ModelFiles
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.image_classification import GivenPicture, ImageClassification
from modelyard_serving.tasks.picture_tensors import PictureTensors
from modelyard_serving.tasks.prepared import PreparingModel

if TYPE_CHECKING:
    from modelyard_serving.models.picture_inputs import Prepared

ARCHITECTURE = "ForImageClassification"


class ImageClassificationKind:
    """Serves folders whose config.json names a head for image classification; packages say their task themselves."""

    task = Task.IMAGE_CLASSIFICATION

    def serves(self, files: ModelFiles) -> bool:
        return any(ARCHITECTURE in name for name in files.architectures)

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        exported = files.package is not None and files.package.program is not None
        network = (load_exported if exported else load_transformers)(files, config, start)
        compute = network.compute
        with start.phase("warmup"):
            from modelyard_serving.models import loading, picture_inputs

            with loading.failures_told(config.model.uri):
                some = compute.inputs.prepare(picture_inputs.some_picture())
                for count in sorted({1, min(2, network.limits.items), network.limits.items}):
                    [row, *_] = compute([some] * count)
        if not (abs(row) < float("inf")).all():
            raise files.invalid("the model computes no numbers (NaN or infinity): the weights are damaged")
        labels = network.labels or tuple(map(str, range(len(row))))
        if len(labels) != len(row):
            raise files.invalid(f"there are {len(labels)} labels, but the model computes {len(row)} scores")
        engine = DynamicBatchingEngine(compute, config=config.engine, limits=network.limits)

        def prepare(picture: GivenPicture) -> "Item[Prepared]":
            return Item(picture.read(compute.inputs.prepare), 1)

        model = PreparingModel(engine, Item(some, 1), prepare)
        task = ImageClassification(model, labels=labels, activation=network.activation)
        facts = {"task": self.task, "labels": len(labels)}
        tensors = PictureTensors(task, len(labels))
        return Loaded(model, lambda service: [
            *ImageClassificationEndpoints(service, task).routes, *OpenInferenceEndpoints(service, tensors).routes,
        ], facts)  # fmt: skip
