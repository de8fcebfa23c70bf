"""An upgrade moves nothing: what releases left, taken over by today's operator under old and new settings."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from tests.unit.fakes.kube import Write
from tests.unit.inert.corpus import made, objects, read, releases, restored, turn, written
from tests.unit.inert.samples import CLUSTERS, POOLS, SERVICES
from tests.unit.reconcile.world import World

from modelyard_gateway.routes import CONFIG_MAP as ROUTES_NAME
from modelyard_operator.api.accelerator_pool import AcceleratorPoolSpec
from modelyard_operator.api.base import ApiModel
from modelyard_operator.api.model_service import ModelServiceSpec
from modelyard_operator.api.serving_cluster import ServingClusterSpec
from modelyard_operator.kube.client import CONFIG_MAP, CONTROLLER_REVISION, MODEL_SERVICE, POD, RAY_CLUSTER, Manifest
from modelyard_operator.reconcile.result import Key

LOOKS = 12
"""Longer than any grace period of the operator, in seconds of the world."""
DEFAULTS = {
    "as they were": {},
    "another image": {"serving_image": "serving:2"},
    "another Ray": {"serving_image": "serving:2", "ray_version": "2.61.0"},
    "another Redis": {"redis_image": "redis:2"},
    "another pull policy": {"image_pull_policy": "Always"},
}
every_release = pytest.mark.parametrize("release", releases())
every_default = pytest.mark.parametrize("changed", DEFAULTS.values(), ids=DEFAULTS.keys())


def requests_to_write(world: World) -> list[Write]:
    """What the operator asked to be written, also where it would have changed nothing."""
    return [each for each in world.kube.requests if each.verb not in ("get", "list")]


@every_release
@every_default
async def test_nothing_that_stands_is_written_to(release: str, changed: dict[str, str]) -> None:
    files = read(release)
    world = restored(files, **changed)
    for _ in range(LOOKS):
        await turn(world)
    # A release may put something of a new kind beside what stands.
    writes = [each for each in requests_to_write(world) if each.kind in files]
    assert [write for write in writes if write.verb != "apply_status"] == []
    assert {address: serve.puts for address, serve in world.serves.items() if serve.puts} == {}
    # A release may tell more in a status than the last one did, and tells it once.
    assert len(writes) == len(set(writes))


@every_default
async def test_what_this_release_leaves_it_does_not_even_report_anew(changed: dict[str, str]) -> None:
    world = restored(written(await made()), **changed)
    for _ in range(LOOKS):
        await turn(world)
    assert requests_to_write(world) == []
    assert world.published == []


@every_release
@every_default
async def test_what_is_lost_is_rendered_again_byte_for_byte(release: str, changed: dict[str, str]) -> None:
    files = read(release)
    world = restored(files, **changed)
    for serve in world.serves.values():
        serve.config, serve.configs, serve.states = None, {}, {}
    world.kube.remove(CONFIG_MAP, ROUTES_NAME, namespace=world.settings.namespace)
    for manifest in world.kube.all(RAY_CLUSTER):
        head = manifest["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        head["image"] = "somebody-elses:1"
        del manifest["spec"]["workerGroupSpecs"][0]["template"]
        world.kube.put(manifest)
    for _ in range(LOOKS):
        await turn(world)
    assert {a: serve.config for a, serve in world.serves.items()} == {
        address: kept["config"] for address, kept in files["serve"].items()
    }
    (routes,) = objects(files, "ConfigMap")
    assert world.kube.all(CONFIG_MAP)[0]["data"] == routes["data"]
    assert specs(world.kube.all(RAY_CLUSTER)) == specs(objects(files, "RayCluster"))


@every_release
@every_default
@pytest.mark.parametrize("edited", ["plain", "own-cluster"])
async def test_an_edit_afterwards_moves_only_what_was_edited(
    release: str, changed: dict[str, str], edited: str
) -> None:
    files = read(release)
    world = restored(files, **changed)
    (service,) = [each for each in objects(files, "ModelService") if each["metadata"]["name"] == edited]
    model = {"source": {"uri": "pvc://models/newer"}}
    for _ in range(3):
        await turn(world)  # A release may tell more in a status.
    before_it = {kind: world.kube.all(kind) for kind in (MODEL_SERVICE, CONTROLLER_REVISION)}
    world.edit({**service, "spec": {**service["spec"], "model": model}})
    await world.settle()
    key = service["metadata"]["namespace"], edited
    assert world.conditions(MODEL_SERVICE, Key(*key))["Ready"] == ("True", "Serving")
    assert world.revisions.keys() - names(files, "ControllerRevision") != set()

    def others(manifests: list[Manifest]) -> list[Manifest]:
        return [each for each in manifests if (each["metadata"]["namespace"], of(each)) != key]

    for kind, stood in before_it.items():
        assert others(world.kube.all(kind)) == others(stood)
    assert others(world.kube.all(CONTROLLER_REVISION)) == others(objects(files, "ControllerRevision"))
    for address, kept in files["serve"].items():
        assert fragments(world.serves[address].config, key) == fragments(kept["config"], key)
    pods = {each["metadata"]["uid"] for each in world.kube.all(POD)}
    gone = [each for each in objects(files, "Pod") if each["metadata"]["uid"] not in pods]
    assert len(gone) == 1, "only the worker of the old revision"
    now = {each["metadata"]["name"]: each["spec"] for each in world.kube.all(RAY_CLUSTER)}
    for before in objects(files, "RayCluster"):
        left = now[before["metadata"]["name"]]
        assert left["headGroupSpec"] == before["spec"]["headGroupSpec"]
        assert left["rayVersion"] == before["spec"]["rayVersion"]
        groups = {group["groupName"]: group for group in left["workerGroupSpecs"]}
        for group in before["spec"]["workerGroupSpecs"]:
            assert groups.get(group["groupName"], group) == group


def test_the_samples_set_every_field() -> None:
    """A field that no sample sets would be missing from the corpus of the next release."""
    missing = [
        *unset(ModelServiceSpec, [each["spec"] for each in SERVICES], "ModelService"),
        *unset(ServingClusterSpec, [each["spec"] for each in CLUSTERS], "ServingCluster"),
        *unset(AcceleratorPoolSpec, [each["spec"] for each in POOLS], "AcceleratorPool"),
    ]
    assert missing == [], "set them in tests/unit/inert/samples.py"


def unset(model: type[BaseModel], given: list[Any], path: str) -> Iterator[str]:
    """The fields of `model`, and of the models in it, that no item of `given` sets."""
    for name, field in model.model_fields.items():
        alias = field.alias or name
        values = [each[alias] for each in given if alias in each]
        if not values:
            yield f"{path}.{alias}"
        nested = models_in(field.annotation)
        items = [item for value in values for item in (value if isinstance(value, list) else [value])]
        for each in nested if values else ():
            yield from unset(each, items, f"{path}.{alias}")


def models_in(annotation: Any) -> list[type[ApiModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, ApiModel) else []
    return [model for part in getattr(annotation, "__args__", ()) for model in models_in(part)]


def specs(manifests: list[Manifest]) -> dict[str, Any]:
    return {each["metadata"]["name"]: (each["spec"], each["metadata"]["annotations"]) for each in manifests}


def names(files: dict[str, Any], kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in objects(files, kind)}


def of(manifest: Manifest) -> str:
    """The service that a service or a revision is of."""
    labels = manifest["metadata"].get("labels", {})
    return str(labels.get("modelyard.dev/service", manifest["metadata"]["name"]))


def fragments(config: Any, without: tuple[str, str]) -> list[Any]:
    """The applications of a Serve config, but those of one service."""
    prefix = f"{without[0]}.{without[1]}."
    return [each for each in config["applications"] if not each["name"].startswith(prefix)]
