"""From a world to packages of two recommenders."""

from collections.abc import Sequence
from pathlib import Path

import torch
from examples.flow.evaluation import outputs_for
from examples.flow.packaging import Measured, package
from examples.flow.training import on_one_core
from examples.recommenders.factors import factorise
from examples.recommenders.neighbours import find_neighbours
from examples.recommenders.world import World, make_world, recall
from safetensors.torch import save_file
from torch import nn

SEED = 0
"""Of the world that is served; the settings of the models were chosen in the world of seed 1."""
K = 10


def build(name: str, folder: Path) -> None:
    """Fill `folder` with the package of `recommend-factors` or `recommend-neighbours`."""
    on_one_core(SEED)
    world = make_world(SEED)
    build_of = {"recommend-factors": _factors, "recommend-neighbours": _neighbours}[name]
    build_of(folder, world)


def _factors(folder: Path, world: World) -> None:
    network = factorise(world.had)
    users = torch.arange(len(world.had))
    _write_ids(folder / "users.txt", world.user_ids)
    items = world.had.nonzero()[:, 1].contiguous()
    offsets = torch.cat([torch.zeros(1), world.had.sum(1).cumsum(0)]).long()
    save_file({"offsets": offsets, "items": items}, folder / "seen.safetensors")
    files = {"items": "items.txt", "users": "users.txt", "seen": "seen.safetensors"}
    _package(folder, network, {"user": users}, world, files)


def _neighbours(folder: Path, world: World) -> None:
    histories = torch.tensor([world.history(user) for user in range(len(world.had))])
    network = find_neighbours(world.had)
    _package(folder, network, {"items": histories}, world, {"items": "items.txt"})


def _package(
    folder: Path, network: nn.Module, given: dict[str, torch.Tensor], world: World, files: dict[str, str]
) -> None:
    _write_ids(folder / "items.txt", world.item_ids)
    [(name, everybody)] = given.items()
    scores = outputs_for(network, everybody)["scores"]
    popular = world.had.sum(0).expand_as(world.had)
    figures = {
        f"recall@{K}": recall(scores, world, k=K),
        f"recall@{K} of the true tastes": recall(world.affinity, world, k=K),
        f"recall@{K} of the most popular": recall(popular, world, k=K),
    }
    print("  " + ", ".join(f"{what}: {value:.4f}" for what, value in figures.items()))
    dataset = f"the choices of {len(world.had)} made-up users among {world.had.shape[1]} items"
    dynamic = {"items": "history"} if name == "items" else None
    package(
        folder, network, {name: everybody[:2].clone()}, Measured(dataset, figures, "held out"),
        dynamic=dynamic, task="recommend", recommendation=files,
    )  # fmt: skip


def _write_ids(file: Path, ids: Sequence[str]) -> None:
    file.write_text("".join(f"{each}\n" for each in ids))
