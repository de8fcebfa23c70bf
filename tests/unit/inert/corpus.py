"""The corpus: whole platforms as releases left them, at rest, each in a folder named after the release.

`make corpus` writes that of this release (CONTRIBUTING.md, "Release"). A folder is never written again later: it is
what stands in clusters that were not upgraded yet.
"""

import json
import sys
from collections import defaultdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.unit.inert.samples import CLUSTERS, NAMESPACES, POOLS, SERVICES, STARTED_FIRST
from tests.unit.reconcile.world import FakeServe, World

from modelyard_operator.kube.client import ACCELERATOR_POOL, Manifest
from modelyard_operator.settings import Settings

FOLDER = Path(__file__).parent / "releases"
PLATFORM = {
    "namespace": "modelyard",
    "serving_image": "serving:1",
    "redis_image": "redis:1",
    "ray_version": "2.60.0",
    "image_pull_policy": "IfNotPresent",
    "default_serving_cluster": "models/shared",
    "gateway_url": "http://gateway.modelyard.svc:8000",
}
"""The operator's settings as the chart of the release sets them."""


def releases() -> list[str]:
    """Those with a corpus."""
    return sorted(each.name for each in FOLDER.iterdir())


async def turn(world: World) -> None:
    """Every loop looks once, those of the pools too."""
    for pool in world.kube.all(ACCELERATOR_POOL):
        await world.look_at_pool(pool["metadata"]["name"])
    await world.turn()


async def made() -> World:
    """The samples, made by this release and come to rest."""
    world = World()
    world.settings = Settings.model_validate(PLATFORM)
    world.start_operator()
    for manifest in (*NAMESPACES, *POOLS, *CLUSTERS):
        world.kube.put(manifest)
    for manifest in SERVICES:
        started_first = manifest["metadata"]["name"] in STARTED_FIRST
        world.kube.put({**manifest, "spec": {"model": manifest["spec"]["model"]}} if started_first else manifest)
    await world.settle()
    for manifest in SERVICES:
        if manifest["metadata"]["name"] in STARTED_FIRST:
            world.edit(manifest)
    await world.settle()
    for _ in range(3):
        await turn(world)
    return world


def written(world: World) -> dict[str, Any]:
    """A world as plain data, file by file."""
    files: dict[str, Any] = defaultdict(list)
    for entry in world.kube.dump():
        files[entry["object"]["kind"]].append(entry)
    files["serve"] = {
        address: {"config": serve.config, "states": serve.states} for address, serve in world.serves.items()
    }
    files["platform"] = {"now": world.now.isoformat(), "settings": world.settings.model_dump(mode="json")}
    return dict(files)


def read(release: str) -> dict[str, Any]:
    """The corpus of a release, as `written` gave it."""
    return {path.stem: json.loads(path.read_text()) for path in (FOLDER / release).iterdir()}


def restored(files: dict[str, Any], **settings: str) -> World:
    """The platform that a release left, taken over by an operator of today with these `settings` changed."""
    world = World()
    world.now = datetime.fromisoformat(files["platform"]["now"])
    world.kube.load(
        [entry for name, entries in files.items() if name not in ("serve", "platform") for entry in entries]
    )
    for address, kept in files["serve"].items():
        serve = world.serves[address] = FakeServe(config=kept["config"], states=kept["states"])
        serve.configs = {each["name"]: each for each in (kept["config"] or {"applications": ()})["applications"]}
    for address in world.gateways:
        world.gateways[address] = world.document.version
    world.settings = Settings.model_validate(PLATFORM | files["platform"]["settings"] | settings)
    world.start_operator()
    return world


def objects(files: dict[str, Any], kind: str) -> list[Manifest]:
    """The objects of a kind in a corpus."""
    return [entry["object"] for entry in files.get(kind, [])]


async def main() -> int:
    """Write the corpus of this release; exit code 1 where there is one."""
    folder = FOLDER / version("modelyard")
    if folder.exists():
        sys.stderr.write(f"{folder} exists: a release left what it left. Raise the version in pyproject.toml first.\n")
        return 1
    folder.mkdir(parents=True)
    for name, content in written(await made()).items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    return 0
