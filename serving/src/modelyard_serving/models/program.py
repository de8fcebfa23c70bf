"""Loading and running a torch.export program whose signature is declared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.export.passes import move_to_device_pass

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.models.folder import CheckedProgram
from modelyard_serving.models.loading import failures_told, invalid, prepare_torch
from modelyard_serving.models.program_archive import UnsafeProgram, check_archive
from modelyard_serving.models.program_signature import DynamicSize, UnservableProgram, match, read_signature
from modelyard_serving.package.description import Signature


@dataclass(frozen=True)
class Program:
    """A program on its device."""

    signature: Signature
    sizes: Mapping[tuple[str, int], DynamicSize]
    """What the dynamic dimensions may be, by input and place in its shape."""
    device: str
    _module: Any
    _keywords: frozenset[str]

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs by name, on the program's device.

        `inputs` has every input of the signature with its dtype and a shape that fits, on any device.
        """
        placed = {spec.name: inputs[spec.name].to(self.device) for spec in self.signature.inputs}
        positional = [tensor for name, tensor in placed.items() if name not in self._keywords]
        with torch.inference_mode():
            computed = self._module(*positional, **{name: placed[name] for name in placed if name in self._keywords})
        if isinstance(computed, torch.Tensor):
            computed = (computed,)
        values = computed.values() if isinstance(computed, dict) else computed
        return {spec.name: value for spec, value in zip(self.signature.outputs, values, strict=True)}


def load_program(checked: CheckedProgram, config: ReplicaConfig) -> Program:
    """Read the program and hold it to the signature of its package.

    Raises:
        StartFailure: its file has more than a graph and tensors, its own signature is another, no GPU where one was
            promised, or memory that ends on the way.
    """
    prepare_torch(config)
    name = checked.file.name
    try:
        check_archive(checked.file)
    except UnsafeProgram as error:
        raise invalid(checked.uri, f"{name} is not loaded: {error}") from error
    with failures_told(checked.uri):
        exported = torch.export.load(checked.file)
        if config.device != "cpu":
            exported = move_to_device_pass(exported, config.device)
        try:
            own = read_signature(exported)
            sizes = match(checked.signature, own)
        except UnservableProgram as error:
            raise invalid(checked.uri, f"{name}: {error}") from error
        module = exported.module(check_guards=False)
    return Program(checked.signature, sizes, config.device, module, own.keywords)
