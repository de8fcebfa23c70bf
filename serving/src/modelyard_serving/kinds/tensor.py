"""Tensor: any torch.export program with a typed signature, behind the Open Inference Protocol."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.engines.grouping import BatchLimits
from modelyard_serving.http.open_inference import OpenInferenceEndpoints
from modelyard_serving.models.folder import ModelFiles, check_program
from modelyard_serving.package.description import DType, TensorSpec
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.tensor import Arrays, Tensors
from modelyard_serving.tasks.tensors import ANY, STORED, Datatype, Extent, TensorInfo, exactly

MAX_ROWS = 256
"""Rows of the batch dimension that are computed at once, where the program has no smaller bound."""
WARM_ROWS = (1, 8, 32)

DATATYPES = {
    DType.BOOL: Datatype.BOOL, DType.UINT8: Datatype.UINT8, DType.INT8: Datatype.INT8, DType.INT16: Datatype.INT16,
    DType.INT32: Datatype.INT32, DType.INT64: Datatype.INT64, DType.FLOAT16: Datatype.FP16,
    DType.BFLOAT16: Datatype.BF16, DType.FLOAT32: Datatype.FP32, DType.FLOAT64: Datatype.FP64,
}  # fmt: skip


class TensorKind:
    """Serves packages whose modelyard.yaml names the task."""

    task = Task.TENSOR

    def serves(self, files: ModelFiles) -> bool:
        return files.package is not None and files.package.task is self.task

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        with start.phase("check"):
            checked = check_program(files, config.memory_bytes)
        with start.phase("imports"):
            # Here and not above: the import takes seconds and belongs into the ledger of the start.
            from modelyard_serving.models import loading, program_batches
            from modelyard_serving.models import program as programs
        with start.phase("load", bytes=checked.load_bytes):
            program = programs.load_program(checked, config)
        signature = program.signature
        inputs = [_info(spec, program.sizes) for spec in signature.inputs]
        outputs = [_info(spec, {}) for spec in signature.outputs]
        rows = _rows(inputs, signature.batch)
        compute = program_batches.ProgramBatches(program, joins=rows is not None)
        with start.phase("warmup"), loading.failures_told(config.model.uri):
            for count in WARM_ROWS if rows is not None else WARM_ROWS[:1]:
                [computed] = compute([_zeros(inputs, signature.batch, min(count, rows or 1))])
        _check_outputs(files, outputs, computed)
        limits = BatchLimits(cells=rows) if rows is not None else BatchLimits(items=1)
        engine = DynamicBatchingEngine(compute, config=config.engine, limits=limits)
        proof: Item[Arrays] = Item(_zeros(inputs, signature.batch, 1), 1)
        model = BatchedModel(engine, proof, 0)
        if rows is not None:  # requests with more rows are cut
            inputs = [_unbounded(info, signature.batch) for info in inputs]
        task = Tensors(model, inputs=inputs, outputs=outputs, rows=rows)
        facts = {"task": self.task, "joins_requests": rows is not None}
        return Loaded(model, lambda service: OpenInferenceEndpoints(service, task).routes, facts)


def _info(spec: TensorSpec, sizes: Mapping[tuple[str, int], Any]) -> TensorInfo:
    def extent(place: int, dimension: int | str) -> Extent:
        if isinstance(dimension, int) and dimension > 0:
            return exactly(dimension)
        bounds = sizes.get((spec.name, place), ANY)
        return Extent(bounds.least, bounds.most, dimension if isinstance(dimension, str) else "")

    shape = tuple(extent(place, dimension) for place, dimension in enumerate(spec.shape))
    return TensorInfo(spec.name, DATATYPES[spec.dtype], shape)


def _unbounded(info: TensorInfo, batch: str | None) -> TensorInfo:
    shape = tuple(replace(extent, most=None) if extent.name == batch else extent for extent in info.shape)
    return replace(info, shape=shape)


def _rows(inputs: list[TensorInfo], batch: str | None) -> int | None:
    """Rows of one piece of work; None where requests cannot be joined.

    A program that needs more than one row at once is one of them: the rest of a request could be too short for it.
    """
    if batch is None or inputs[0].shape[0].least > 1:
        return None
    return min(inputs[0].shape[0].most or MAX_ROWS, MAX_ROWS)


def _zeros(inputs: list[TensorInfo], batch: str | None, rows: int) -> dict[str, Any]:
    """Inputs of the least sizes, with so many rows where requests can be joined."""
    zeros = {}
    for info in inputs:
        shape = [max(rows, extent.least) if batch and extent.name == batch else extent.least for extent in info.shape]
        zeros[info.name] = np.zeros(shape, STORED[info.datatype])
    return zeros


def _check_outputs(files: ModelFiles, outputs: list[TensorInfo], computed: Mapping[str, Any]) -> None:
    """What the program computes is what its signature says; it was compared before, without computing."""
    for info in outputs:
        array = computed[info.name]
        if array.dtype != STORED[info.datatype] or array.ndim != len(info.shape):
            raise files.invalid(
                f"the output {info.name} is {array.dtype} with {array.ndim} dimensions, not as declared"
            )
