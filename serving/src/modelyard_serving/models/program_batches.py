"""Running a program on a batch of requests' arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from modelyard_serving.models.program import Program
from modelyard_serving.package.description import DType

Arrays = Mapping[str, Any]
"""numpy arrays by name; bfloat16 as the uint16 of its bits."""


class ProgramBatches:
    """Computes batches; where `joins`, requests of the same shape but for the first dimension are one call."""

    def __init__(self, program: Program, *, joins: bool) -> None:
        self._program = program
        self._joins = joins
        self._inputs = {spec.name: spec for spec in program.signature.inputs}

    def __call__(self, batch: Sequence[Arrays]) -> list[Arrays]:
        """The outputs of each."""
        given = [{name: self._tensor(name, array) for name, array in arrays.items()} for arrays in batch]
        results: dict[int, Arrays] = {}
        for places in self._alike(given):
            for place, arrays in zip(places, self._compute([given[place] for place in places]), strict=True):
                results[place] = arrays
        return [results[place] for place in range(len(batch))]

    def _alike(self, given: Sequence[Mapping[str, torch.Tensor]]) -> list[list[int]]:
        if not self._joins:
            return [[place] for place in range(len(given))]
        groups: dict[tuple[torch.Size, ...], list[int]] = {}
        for place, tensors in enumerate(given):
            groups.setdefault(tuple(tensors[name].shape[1:] for name in self._inputs), []).append(place)
        return list(groups.values())

    def _compute(self, given: Sequence[Mapping[str, torch.Tensor]]) -> list[Arrays]:
        if len(given) == 1:
            return [_arrays(self._program(given[0]))]
        rows = [len(next(iter(tensors.values()))) for tensors in given]
        joined = {name: torch.cat([tensors[name] for tensors in given]) for name in self._inputs}
        split = {name: torch.split(tensor, rows) for name, tensor in self._program(joined).items()}
        return [_arrays({name: parts[place] for name, parts in split.items()}) for place in range(len(given))]

    def _tensor(self, name: str, array: Any) -> torch.Tensor:
        # Copied: what came over the wire is read-only, and a program may write into its inputs.
        tensor = torch.tensor(array)
        return tensor.view(torch.bfloat16) if self._inputs[name].dtype is DType.BFLOAT16 else tensor


def _arrays(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    return {name: _array(tensor.cpu().contiguous()) for name, tensor in tensors.items()}


def _array(tensor: torch.Tensor) -> Any:
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
