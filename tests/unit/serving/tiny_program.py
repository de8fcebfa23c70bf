"""Tiny exported programs, whole packages as a user would have them."""

from pathlib import Path
from typing import Any

import torch

from modelyard_serving.package.writing import write_package

PROGRAM = "model.pt2"


class Digits(torch.nn.Module):
    """28 x 28 pixels in, ten logits and the mean of the pixels out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.linear = torch.nn.Linear(784, 10)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        flat = image.flatten(1)
        return {"logits": self.linear(flat), "mean": flat.mean(1)}


def export(folder: Path, model: torch.nn.Module, inputs: dict[str, torch.Tensor], dynamic: Any) -> Path:
    """`model.pt2` of `model`, whose arguments are `inputs`."""
    folder.mkdir(parents=True, exist_ok=True)
    exported = torch.export.export(model.eval(), (), kwargs=inputs, dynamic_shapes=dynamic)
    torch.export.save(exported, folder / PROGRAM)
    return folder


def tensor(name: str, dtype: str, *shape: int | str) -> dict[str, Any]:
    """A tensor of a signature."""
    return {"name": name, "dtype": dtype, "shape": list(shape)}


DIGITS: dict[str, Any] = {
    "inputs": [tensor("image", "float32", "batch", 1, 28, 28)],
    "outputs": [tensor("logits", "float32", "batch", 10), tensor("mean", "float32", "batch")],
    "batch": "batch",
}


def write_digits(folder: Path, **changes: Any) -> Path:
    """A package of `Digits` for 1 to 64 pictures at once."""
    batch = torch.export.Dim("batch", min=1, max=64)
    export(folder, Digits(), {"image": torch.zeros(2, 1, 28, 28)}, {"image": {0: batch}})
    write_package(folder, {"task": "tensor", "program": PROGRAM, "signature": DIGITS} | changes)
    return folder


class Types(torch.nn.Module):
    """Each input comes back as it is, whatever its type."""

    def forward(self, **given: torch.Tensor) -> dict[str, torch.Tensor]:
        return {f"{name}_out": tensor.clone() for name, tensor in given.items()}


DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


def write_types(folder: Path) -> Path:
    """A package of `Types`, whose inputs are called like their types; one row of any length."""
    inputs = {f"{dtype}_in": torch.zeros(3, dtype=getattr(torch, dtype)) for dtype in DTYPES}
    length = torch.export.Dim("length", min=1, max=1000)
    export(folder, Types(), inputs, {"given": {name: {0: length} for name in inputs}})
    signature = {
        "inputs": [tensor(f"{dtype}_in", dtype, "length") for dtype in DTYPES],
        "outputs": [tensor(f"{dtype}_in_out", dtype, "length") for dtype in DTYPES],
    }
    write_package(folder, {"task": "tensor", "program": PROGRAM, "signature": signature})
    return folder


class Weighted(torch.nn.Module):
    """The sum of values, each times its weight, for each row; how many rows were computed together."""

    def forward(self, values: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (values * weights).sum(1), torch.full_like(values[:, 0], values.shape[0])


def write_weighted(folder: Path) -> Path:
    """A package of `Weighted` for any number of rows of any length."""
    rows, length = torch.export.Dim("rows", min=1), torch.export.Dim("length", min=1)
    shape = {0: rows, 1: length}
    export(
        folder, Weighted(), {"values": torch.ones(2, 3), "weights": torch.ones(2, 3)},
        {"values": shape, "weights": shape},
    )  # fmt: skip
    signature = {
        "inputs": [tensor("values", "float32", "rows", "length"), tensor("weights", "float32", "rows", "length")],
        "outputs": [tensor("output_0", "float32", "rows"), tensor("output_1", "float32", "rows")],
        "batch": "rows",
    }
    write_package(folder, {"task": "tensor", "program": PROGRAM, "signature": signature})
    return folder
