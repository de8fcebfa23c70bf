"""The trained examples on the cluster: what their READMEs say of them is what clients find through the API."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from e2e.cluster import REPOSITORY, Service, kubectl
from e2e.traffic import post
from examples.digits.data import LABELS, MNIST, UCI, Collection
from examples.languages import catalogues
from examples.recommenders.build import SEED
from examples.recommenders.world import make_world
from examples.sunspots import series
from PIL import Image

ROWS, PICTURES = 256, 32
"""Of one request."""


@dataclass(frozen=True)
class Served:
    """An example that answers."""

    gateway: str
    service: Service

    def ask(self, path: str, **body: object) -> dict[str, Any]:
        url = f"{self.gateway}/{self.service.model}{path}"
        status, answer = post(url, {"model": self.service.model, **body} if path.startswith("/v1") else body)
        assert status == 200, answer
        return answer

    def infer(self, name: str, datatype: str, rows: Any) -> Any:
        """What the program gives for all rows, some at a time."""
        parts = []
        for begin in range(0, len(rows), ROWS):
            part = rows[begin : begin + ROWS]
            tensor = {"name": name, "datatype": datatype, "shape": list(part.shape), "data": part.flatten().tolist()}
            [output] = self.ask(f"/v2/models/{self.service.model}/infer", inputs=[tensor])["outputs"]
            parts.append(np.array(output["data"]).reshape(output["shape"]))
        return np.concatenate(parts)


def _digits(collection: Collection) -> Callable[[Served], float]:
    def accuracy(served: Served) -> float:
        digits = collection.load()
        images, labels = digits.part(digits.split.test)
        pictures = [_png(image) for image in images[:, 0].byte().numpy()]
        found: list[str] = []
        for begin in range(0, len(pictures), PICTURES):
            answer = served.ask("/v1/classify", input=pictures[begin : begin + PICTURES], top_k=1)
            found += [each["labels"][0]["label"] for each in answer["data"]]
        return float(np.mean([LABELS.index(label) for label in found] == labels.numpy()))

    return accuracy


def _png(grey: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _languages(served: Served) -> float:
    texts = catalogues.load()
    part = texts.split.test
    logits = served.infer("text", "UINT8", texts.bytes[part].numpy())
    return float((logits.argmax(1) == texts.languages[part].numpy()).mean())


def _sunspots(served: Served) -> float:
    _, measured = series.load()
    ahead = served.infer("past", "FP32", measured.past.numpy())
    return float(np.abs(ahead - measured.ahead.numpy()).mean())


def _recommendations(served: Served) -> float:
    """Recall at 10 of every tenth user; nobody is recommended what they have had."""
    world = make_world(SEED)
    found = []
    for user in range(0, len(world.had), 10):
        had = [world.item_ids[place] for place in world.history(user)]
        by = {"items": had} if served.service.name == "recommend-neighbours" else {"user_id": world.user_ids[user]}
        ids = [each["id"] for each in served.ask("/v1/recommend", k=10, **by)["data"]]
        assert not set(ids) & set(had)
        found.append(np.mean([world.item_ids[place] in ids for place in world.held_out[user].tolist()]))
    return float(np.mean(found))


@dataclass(frozen=True)
class Example:
    """An example's folder, how to measure it, and how near to its package's figure that must be."""

    folder: str
    measure: Callable[[Served], float]
    tolerance: float = 0.005


EXAMPLES = {
    "digits-convolutional": Example("digits", _digits(MNIST)),
    "digits-dense": Example("digits", _digits(MNIST)),
    "digits-residual": Example("digits", _digits(UCI)),
    "language-lstm": Example("languages", _languages),
    "language-rnn": Example("languages", _languages),
    "recommend-factors": Example("recommenders", _recommendations, tolerance=0.04),
    "recommend-neighbours": Example("recommenders", _recommendations, tolerance=0.04),
    "sunspots-lstm": Example("sunspots", _sunspots, tolerance=0.1),
}
"""A tenth of the users is asked, so recall may be off by their choice; the others are asked all that was held out."""

FIRST = ("digits-convolutional", "recommend-factors", "language-lstm")


def test_the_table_has_every_example() -> None:
    manifests = {file.stem: file.parent.name for file in (REPOSITORY / "examples").glob("*/*.yaml")}
    assert manifests == {name: example.folder for name, example in EXAMPLES.items()}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(FIRST, id="one-of-each-kind"),
        pytest.param([name for name in EXAMPLES if name not in FIRST], id="the-others"),
    ],
)
@pytest.mark.timeout(600)
def test_the_figures_are_those_of_the_packages(platform: str, models_folder: Path, names: list[str]) -> None:
    services = [Service("default", name) for name in names]
    targets = [f"modelservice/{name}" for name in names]
    try:
        for name in names:
            kubectl("apply", "-f", str(REPOSITORY / "examples" / EXAMPLES[name].folder / f"{name}.yaml"))
        kubectl("wait", *targets, "-n", "default", "--for=condition=Ready", "--timeout=400s", timeout=420)
        for service in services:
            example = EXAMPLES[service.name]
            described = yaml.safe_load((models_folder / service.name / "modelyard.yaml").read_text())
            measured = example.measure(Served(platform, service))
            assert measured == pytest.approx(described["metrics"][0]["value"], abs=example.tolerance), service.name
    finally:
        kubectl("delete", *targets, "-n", "default", "--wait=false", "--ignore-not-found")
        for service in services:
            service.delete()
