"""Loading an image classifier: from a transformers folder, or from a package with an exported program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.engines.grouping import BatchLimits
from modelyard_serving.models.folder import ModelFiles, check_program, check_weights
from modelyard_serving.package.description import ImagePreprocessing, PackageDescription, Preprocessing, Signature, Size
from modelyard_serving.start import Start
from modelyard_serving.tasks.classification import Activation, activation_of

if TYPE_CHECKING:
    from modelyard_serving.models.picture_scores import PictureScores

BATCH_PICTURES = {"cpu": 8, "cuda": 32}
"""A CPU gains nothing from more, and the first of a batch waits for the last."""

FLOATS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class PictureNetwork:
    """A model that gives each picture a row of scores."""

    compute: "PictureScores"
    labels: tuple[str, ...]
    """Empty where the package has none."""
    activation: Activation
    limits: BatchLimits


def load_transformers(files: ModelFiles, config: ReplicaConfig, start: Start) -> PictureNetwork:
    """Check, import and read a transformers folder.

    Raises:
        StartFailure: the model cannot be served.
    """
    with start.phase("check"):
        folder = check_weights(files, config.memory_bytes)
    with start.phase("imports"):
        # Here and not above: the import takes seconds and belongs into the ledger of the start.
        from transformers import AutoModelForImageClassification as Auto

        from modelyard_serving.models import encoder as encoders
        from modelyard_serving.models import picture_scores

        settings = encoders.import_architecture(folder, config.model.uri, Auto)
    with start.phase("load", bytes=folder.load_bytes):
        compute = picture_scores.load_picture_scores(folder, settings, config)
    labels = tuple(str(settings.id2label[number]) for number in range(len(settings.id2label)))
    activation = activation_of(settings.problem_type, len(labels))
    return PictureNetwork(compute, labels, activation, BatchLimits(items=BATCH_PICTURES[config.device]))


def load_exported(files: ModelFiles, config: ReplicaConfig, start: Start) -> PictureNetwork:
    """Check, import and read a package with a program, which takes pictures and gives logits.

    Raises:
        StartFailure: the model cannot be served.
    """
    with start.phase("check"):
        checked = check_program(files, config.memory_bytes)
        said = _checked(files, checked.package, checked.signature)
    with start.phase("imports"):
        # As above.
        from modelyard_serving.models import packaged_pictures
        from modelyard_serving.models import program as programs
    with start.phase("load", bytes=checked.load_bytes):
        program = programs.load_program(checked, config)
        compute = packaged_pictures.of_program(program, said)
    name = checked.signature.inputs[0].name
    most = 1
    if checked.signature.batch:
        bounds = program.sizes[name, 0]
        if bounds.least > 1:
            raise files.invalid(f"the program takes no fewer than {bounds.least} pictures at once; export it for 1")
        most = min(BATCH_PICTURES[config.device], bounds.most or BATCH_PICTURES[config.device])
    classes = checked.signature.outputs[0].shape[1]
    activation = activation_of(None, 1 if classes == 1 else 2)
    return PictureNetwork(compute, checked.package.labels, activation, BatchLimits(items=most))


def _checked(files: ModelFiles, package: PackageDescription, signature: Signature) -> ImagePreprocessing:
    """The preprocessing of pictures, which gives what the signature takes."""
    pictures, scores = signature.inputs[0], signature.outputs[0]
    sizes = pictures.shape[1:]
    fixed = all(isinstance(size, int) and size > 0 for size in sizes)
    if len(signature.inputs) > 1 or len(sizes) != 3 or not fixed or pictures.dtype not in FLOATS:
        raise files.invalid(
            f"signature.inputs: pictures are one input, [pictures, 3, 224, 224] for example, of {' or '.join(FLOATS)}"
        )
    if len(scores.shape) != 2:
        raise files.invalid(f"signature.outputs: {scores.name}, the first, must be logits, [pictures, labels]")
    if signature.batch is None and pictures.shape[0] != 1:
        raise files.invalid("signature.batch: name the first dimension, or export the program for 1 picture")
    said = cast("Preprocessing", package.preprocessing).image  # the description of a package for this task has it
    size = said.crop or said.resize
    if not isinstance(size, Size):
        raise files.invalid("preprocessing.image: pictures keep sizes of their own; add crop, or resize to both sides")
    plane, channels = (size.height, size.width), (len(said.channels.value),)
    given = channels + plane if said.layout == "CHW" else plane + channels
    if given != sizes:
        raise files.invalid(f"preprocessing.image gives {_times(given)}, but {pictures.name} is {_times(sizes)}")
    return said


def _times(sizes: Sequence[int | str]) -> str:
    return " x ".join(map(str, sizes))
