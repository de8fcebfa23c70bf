"""Packages of tiny recommenders: three users, five items, and what anyone can compute with a pencil."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.unit.serving.tiny_program import PROGRAM, export, tensor

from modelyard_serving.package.writing import write_package

USERS, ITEMS = ["ann", "bob", "陈"], ["apple", "bread", "cheese", "dates", "éclair"]
TASTES = [[5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 2.0, 2.0, 0.5], [0.5, float("-inf"), 1.5, float("inf"), 2.5]]
"""Scores of the items for each user."""
SEEN = [[0, 2], [], [4]]
NEAR = [
    [0.0, 3.0, 1.0, 0.0, 0.5],
    [3.0, 0.0, 2.0, 0.0, 0.0],
    [1.0, 2.0, 0.0, 4.0, 0.0],
    [0.0, 0.0, 4.0, 0.0, 0.25],
    [0.5, 0.0, 0.0, 0.25, 0.0],
]
"""How near items are to each other."""

BATCH = torch.export.Dim("batch", min=1, max=64)
SCORES = {"outputs": [tensor("scores", "float32", "batch", 5)], "batch": "batch"}
USER_SIGNATURE = {"inputs": [tensor("user", "int64", "batch")]} | SCORES
ITEMS_SIGNATURE = {"inputs": [tensor("items", "int64", "batch", "history")]} | SCORES


class ByUser(torch.nn.Module):
    def __init__(self, tastes: list[list[float]] = TASTES) -> None:
        super().__init__()
        self.tastes = torch.nn.Parameter(torch.tensor(tastes))

    def forward(self, user: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": self.tastes[user]}


class ByItems(torch.nn.Module):
    def __init__(self, filling: float = 0.0) -> None:
        super().__init__()
        self.near = torch.nn.Parameter(torch.tensor([*NEAR, [filling] * len(NEAR)]))

    def forward(self, items: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": self.near[items].sum(1)}


def write_by_user(folder: Path, model: torch.nn.Module | None = None, *, least: int = 1, **changes: Any) -> Path:
    """A package that recommends to `least` users at once or more; `changes` are of its description."""
    batch = torch.export.Dim("batch", min=least, max=64)
    export(folder, model or ByUser(), {"user": torch.zeros(2, dtype=torch.long)}, {"user": {0: batch}})
    _write_ids(folder / "users.txt", USERS)
    offsets = torch.tensor([0, *(len(had) for had in SEEN)]).cumsum(0)
    save_file(
        {"offsets": offsets, "items": torch.tensor([place for had in SEEN for place in had])},
        folder / "seen.safetensors",
    )
    files = {"items": "items.txt", "users": "users.txt", "seen": "seen.safetensors"}
    return _describe(folder, USER_SIGNATURE, files, changes)


def write_by_items(folder: Path, model: torch.nn.Module | None = None, **changes: Any) -> Path:
    """A package that recommends by items."""
    dynamic = {"items": {0: BATCH, 1: torch.export.Dim("history", min=1, max=4)}}
    export(folder, model or ByItems(), {"items": torch.zeros(2, 3, dtype=torch.long)}, dynamic)
    return _describe(folder, ITEMS_SIGNATURE, {"items": "items.txt"}, changes)


def _describe(folder: Path, signature: Any, files: dict[str, str], changes: dict[str, Any]) -> Path:
    _write_ids(folder / "items.txt", ITEMS)
    about = {"task": "recommend", "program": PROGRAM, "signature": signature, "recommendation": files}
    write_package(folder, about | changes)
    return folder


def _write_ids(file: Path, ids: list[str]) -> None:
    if not file.exists():
        file.write_text("".join(f"{each}\n" for each in ids), encoding="utf-8")
