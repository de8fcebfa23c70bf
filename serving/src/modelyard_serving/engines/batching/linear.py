"""Linear layers whose weights lie as the CPU's matrix multiplication wants them."""

from collections.abc import Sequence

import torch
from torch.nn import functional

PACKED_FOR = 32
"""Rows of a typical step; the layout that oneDNN picks for it is good from one row to some hundred."""
PACKED_DTYPES = (torch.bfloat16, torch.float32)


class Linear:
    """`x @ weight.T + bias`; several layers with the same input are made one by their weights on top of each other."""

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None]) -> None:
        weight = torch.cat([each.detach() for each in weights])
        self._bias = None if biases[0] is None else torch.cat([each.detach() for each in biases if each is not None])
        self._packed = weight.device.type == "cpu" and weight.dtype in PACKED_DTYPES and torch.backends.mkldnn.enabled
        if self._packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)  # noqa: SLF001 - torch has no other name for it
        self._weight = weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed:
            result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")  # noqa: SLF001
            return result
        return functional.linear(x, self._weight, self._bias)
