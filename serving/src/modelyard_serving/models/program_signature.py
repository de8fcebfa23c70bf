"""The signature that an exported program itself has, and whether it is the declared one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modelyard_serving.package.description import ANY_SIZE, MAX_SIZE, DType, Signature, TensorSpec

BATCH = "batch"
DTYPES = {getattr(torch, dtype.value): dtype for dtype in DType}


class UnservableProgram(Exception):
    """The program takes or gives what cannot be served, or not what was declared; the text names it."""


@dataclass(frozen=True)
class DynamicSize:
    """What a dynamic dimension may be; `most` None: no bound."""

    least: int
    most: int | None


@dataclass(frozen=True)
class OwnTensor:
    """A tensor of the program: its sizes are numbers, symbols, or expressions of them."""

    name: str
    dtype: DType
    sizes: tuple[Any, ...]


@dataclass(frozen=True)
class OwnSignature:
    """What the program itself says."""

    inputs: tuple[OwnTensor, ...]
    outputs: tuple[OwnTensor, ...]
    keywords: frozenset[str]
    """Inputs that are given by name."""
    ranges: Mapping[str, DynamicSize]

    def declared(self) -> Signature:
        """The same as a package declares it. A symbol that is first in every tensor is called `batch`."""
        symbols: dict[str, str] = {}
        firsts = {str(tensor.sizes[0]) if tensor.sizes else "" for tensor in (*self.inputs, *self.outputs)}
        batch = next(iter(firsts)) if len(firsts) == 1 and next(iter(firsts)) in self.ranges else None
        for tensor in self.inputs:
            for size in map(str, tensor.sizes):
                if size in self.ranges:
                    symbols.setdefault(size, BATCH if size == batch else f"size_{len(symbols)}")
        return Signature(
            inputs=tuple(_spec(tensor, symbols) for tensor in self.inputs),
            outputs=tuple(_spec(tensor, symbols) for tensor in self.outputs),
            batch=BATCH if batch else None,
        )


def read_signature(exported: Any) -> OwnSignature:
    """What a torch.export.ExportedProgram takes and gives.

    Raises:
        UnservableProgram: something other than tensors, or tensors inside of others' lists.
    """
    call = exported.call_spec
    arguments, keywords = call.in_spec.children()
    if any(not child.is_leaf() for child in (*arguments.children(), *keywords.children())):
        raise UnservableProgram("an argument of forward() is a list, tuple or dict; give every tensor its own argument")
    names = list(exported.module_call_graph[0].signature.forward_arg_names or exported.graph_signature.user_inputs)
    positional = names[: arguments.num_children]
    ordered = [*positional, *(keywords.context or ())]
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    inputs = tuple(
        _own(name, values.get(node), "input")
        for name, node in zip(ordered, exported.graph_signature.user_inputs, strict=True)
    )
    outputs = tuple(
        _own(name, values.get(node), "output")
        for name, node in zip(_output_names(call.out_spec), exported.graph_signature.user_outputs, strict=True)
    )
    ranges = {str(symbol): _range(span) for symbol, span in exported.range_constraints.items()}
    return OwnSignature(inputs, outputs, frozenset(keywords.context or ()), ranges)


def match(declared: Signature, own: OwnSignature) -> dict[tuple[str, int], DynamicSize]:
    """What the dynamic sizes of the inputs may be, by the input's name and the place in its shape.

    Raises:
        UnservableProgram: the declared signature is not the program's.
    """
    sizes: dict[tuple[str, int], DynamicSize] = {}
    symbols: dict[str, str] = {}
    _check_tensors("inputs", declared.inputs, own.inputs)
    for spec, tensor in zip(declared.inputs, own.inputs, strict=True):
        for place, (said, size) in enumerate(zip(spec.shape, tensor.sizes, strict=True)):
            where = f"signature.inputs.{spec.name}.shape.{place}"
            if isinstance(size, int) or (isinstance(said, int) and said != ANY_SIZE):
                _check_fixed(where, said, size)
                continue
            if str(size) not in own.ranges:
                raise UnservableProgram(f"{where} is {size} in the program; export it with a size of its own")
            # A size that the program has in two places needs one name, or requests could make them differ.
            name = said if isinstance(said, str) else f"{spec.name}.{place}"
            if symbols.setdefault(name, str(size)) != str(size) or list(symbols.values()).count(str(size)) > 1:
                raise UnservableProgram(
                    f"{where} is {said}: use one name where, and only where, sizes must be the same"
                )
            sizes[spec.name, place] = own.ranges[str(size)]
    _check_tensors("outputs", declared.outputs, own.outputs)
    for spec, tensor in zip(declared.outputs, own.outputs, strict=True):
        for place, (said, size) in enumerate(zip(spec.shape, tensor.sizes, strict=True)):
            where = f"signature.outputs.{spec.name}.shape.{place}"
            if isinstance(said, str) and symbols.get(said) != str(size):
                raise UnservableProgram(f"{where} is {said}, in the program it is {_told(size)}; write -1")
            if said != ANY_SIZE and isinstance(said, int):
                _check_fixed(where, said, size)
    return sizes


def _check_tensors(side: str, declared: Sequence[TensorSpec], own: Sequence[OwnTensor]) -> None:
    said, there = [spec.name for spec in declared], [tensor.name for tensor in own]
    if said != there:
        raise UnservableProgram(f"signature.{side} has {', '.join(said)}; the program's are {', '.join(there)}")
    for spec, tensor in zip(declared, own, strict=True):
        if spec.dtype is not tensor.dtype:
            raise UnservableProgram(
                f"signature.{side}.{spec.name}.dtype is {spec.dtype}, in the program {tensor.dtype}"
            )
        if len(spec.shape) != len(tensor.sizes):
            raise UnservableProgram(
                f"signature.{side}.{spec.name}.shape has {len(spec.shape)} sizes, in the program {len(tensor.sizes)}"
            )


def _check_fixed(where: str, said: int | str, size: Any) -> None:
    if said != size:
        raise UnservableProgram(f"{where} is {said}, in the program it is {_told(size)}")


def _told(size: Any) -> str:
    return str(size) if isinstance(size, int) else "dynamic"


def _spec(tensor: OwnTensor, symbols: Mapping[str, str]) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else symbols.get(str(size), ANY_SIZE) for size in tensor.sizes)
    return TensorSpec(name=tensor.name, dtype=tensor.dtype, shape=shape)


def _own(name: str, value: Any, side: str) -> OwnTensor:
    if not isinstance(value, torch.Tensor):
        raise UnservableProgram(f"the {side} {name} is no tensor; the program takes and gives only tensors")
    if value.dtype not in DTYPES:
        raise UnservableProgram(f"the {side} {name} is {value.dtype}; served are {', '.join(DType)}")
    sizes = tuple(size if isinstance(size, int) else size.node.expr for size in value.shape)
    return OwnTensor(
        name, DTYPES[value.dtype], tuple(int(size) if getattr(size, "is_Integer", False) else size for size in sizes)
    )


def _output_names(spec: Any) -> list[str]:
    if spec.is_leaf():
        return ["output_0"]
    if any(not child.is_leaf() for child in spec.children()):
        raise UnservableProgram(
            "the result of forward() is nested; give a tensor, a tuple of tensors, or a dict of them"
        )
    return list(spec.context) if spec.type is dict else [f"output_{place}" for place in range(spec.num_children)]


def _range(span: Any) -> DynamicSize:
    least, most = span.lower, span.upper
    bounded = getattr(most, "is_Integer", True) and most <= MAX_SIZE
    return DynamicSize(max(1, int(least)), int(most) if bounded else None)
