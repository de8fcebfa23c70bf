"""From a trained network to a package that `modelyard` serves."""

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelyard_serving.models.program_signature import read_signature
from modelyard_serving.package.writing import write_package

PROGRAM = "model.pt2"
MAX_ROWS = 256
"""Most requests that a program computes at once."""


@dataclass(frozen=True)
class Measured:
    """What a figure in a package was measured on."""

    dataset: str
    figures: dict[str, float]
    split: str = "test"

    def metrics(self) -> list[dict[str, Any]]:
        """As `modelyard.yaml` has them."""
        return [
            {"name": name, "value": round(value, 4), "dataset": self.dataset, "split": self.split}
            for name, value in self.figures.items()
        ]


def package(
    folder: Path, network: nn.Module, example: dict[str, torch.Tensor], measured: Measured,
    *, dynamic: dict[str, str] | None = None, **about: Any,
) -> None:  # fmt: skip
    """Export `network` for 1 to `MAX_ROWS` rows, and describe it with its figures.

    `example` has two rows of each input by its name in forward(); `dynamic` names inputs whose second dimension may
    have any size from 1 to 1000. `about` is the rest of the description, `task` at least.
    """
    batch = torch.export.Dim("batch", min=1, max=MAX_ROWS)
    shapes: dict[str, dict[int, Any]] = {name: {0: batch} for name in example}
    for name, size in (dynamic or {}).items():
        shapes[name][1] = torch.export.Dim(size, min=1, max=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # recurrent layers order their weights anew at each export
        exported = torch.export.export(network.eval(), (), kwargs=example, dynamic_shapes=shapes)
    torch.export.save(exported, folder / PROGRAM)
    write_package(folder, {
        "program": PROGRAM,
        "signature": read_signature(exported).declared().model_dump(mode="json"),
        "metrics": measured.metrics(),
        "provenance": {
            "source": f"trained by Modelyard's examples on {measured.dataset}",
            "created": datetime.now(UTC).replace(microsecond=0),
            "made_with": {"torch": torch.__version__},
        },
        "licence": "Apache-2.0",
        **about,
    })  # fmt: skip
