"""Requests and answers of the Open Inference Protocol's infer, as they are on the wire.

A body is a JSON document; with the binary tensor data extension the tensors' bytes follow it, and the header
`Inference-Header-Content-Length` says where they begin.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, StrictBool, StrictInt, StrictStr, ValidationError
from pydantic_core import from_json as parse_json

from modelyard_serving.http.body import StrictRequest
from modelyard_serving.http.errors import ApiError, invalid_body
from modelyard_serving.http.tensor_data import from_binary, from_json, to_binary, to_json
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.tensors import Array, Datatype, GivenTensor, TensorInfo

HEADER = "Inference-Header-Content-Length"
MAX_TENSORS = 256


class InputParameters(StrictRequest):
    """How a tensor's values come."""

    binary_data_size: StrictInt | None = Field(default=None, ge=0)


class InferInput(StrictRequest):
    """A tensor of the request."""

    name: StrictStr
    shape: list[StrictInt]
    datatype: Datatype
    parameters: InputParameters = InputParameters()
    data: Any = None


class OutputParameters(StrictRequest):
    """How a tensor's values shall go out."""

    binary_data: StrictBool | None = None


class WantedOutput(StrictRequest):
    """A tensor that the answer shall have."""

    name: StrictStr
    parameters: OutputParameters = OutputParameters()


class InferParameters(StrictRequest):
    """What the whole request wants."""

    binary_data_output: StrictBool = False
    timeout: StrictInt | None = Field(default=None, ge=1, description="Microseconds, as Triton has it.")


class InferRequest(StrictRequest):
    """The JSON document."""

    id: StrictStr | None = Field(default=None, max_length=1000)
    parameters: InferParameters = InferParameters()
    inputs: list[InferInput] = Field(min_length=1, max_length=MAX_TENSORS)
    outputs: list[WantedOutput] = Field(default=[], max_length=MAX_TENSORS)


@dataclass(frozen=True)
class Wanted:
    """An output of the answer."""

    info: TensorInfo
    binary: bool


def parse(raw: bytes, header_length: str | None) -> tuple[InferRequest, dict[str, GivenTensor]]:
    """The request in a body, and its tensors by name.

    Raises:
        ApiError: it is no request of the protocol.
        InvalidInput: a tensor is not what the request says of it.
    """
    length = len(raw) if header_length is None else _length(header_length, len(raw))
    try:
        request = InferRequest.model_validate(parse_json(raw[:length], allow_inf_nan=False))
    except ValidationError as error:
        raise invalid_body(error) from error
    except ValueError as error:
        raise ApiError(400, f"the JSON of the body is none: {error}", code="invalid_json") from error
    rest = memoryview(raw)[length:]
    tensors: dict[str, GivenTensor] = {}
    for given in request.inputs:
        if given.name in tensors:
            raise InvalidInput(f"inputs.{given.name}", "is there twice")
        array, rest = _array(given, rest)
        tensors[given.name] = GivenTensor(given.datatype, array)
    if rest:
        raise InvalidInput(
            "inputs", f"leave {len(rest)} bytes of binary data over; their binary_data_size is too small"
        )
    return request, tensors


def choose_outputs(request: InferRequest, outputs: Sequence[TensorInfo]) -> list[Wanted]:
    """The outputs that the request asks for, in its order; all where it names none.

    Raises:
        InvalidInput: the model has no such output.
    """
    binary = request.parameters.binary_data_output
    known = {info.name: info for info in outputs}
    if not request.outputs:
        return [Wanted(info, binary) for info in outputs]
    wanted: dict[str, Wanted] = {}
    for output in request.outputs:
        field = f"outputs.{output.name}"
        if output.name not in known:
            raise InvalidInput(field, f"the model has no such output; it has {', '.join(known)}")
        if output.name in wanted:
            raise InvalidInput(field, "is there twice")
        own = output.parameters.binary_data
        wanted[output.name] = Wanted(known[output.name], binary if own is None else own)
    return list(wanted.values())


def write(
    identity: Mapping[str, Any], wanted: Sequence[Wanted], computed: Mapping[str, Array]
) -> tuple[bytes, int | None]:
    """The body of an answer, and where its JSON ends if binary data follows it.

    Raises:
        InvalidInput: JSON has no form for a value of an output that is wanted as JSON.
    """
    outputs, binary = [], []
    for each in wanted:
        name, datatype, array = each.info.name, each.info.datatype, computed[each.info.name]
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if each.binary:
            binary.append(to_binary(datatype, array))
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            output["data"] = to_json(name, datatype, array)
        outputs.append(output)
    document = json.dumps({**identity, "outputs": outputs}, ensure_ascii=False, allow_nan=False).encode()
    return b"".join((document, *binary)), len(document) if binary else None


def _length(text: str, size: int) -> int:
    length = int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else -1
    if not 0 < length <= size:
        raise ApiError(
            400, f"{HEADER} is {text[:40]!r}; it must be the length of the JSON, from 1 to the body's {size}"
        )
    return length


def _array(given: InferInput, rest: memoryview) -> tuple[Array, memoryview]:
    """The values of an input, and the binary data behind them."""
    field = f"inputs.{given.name}"
    size = given.parameters.binary_data_size
    if (size is None) == (given.data is None):
        raise InvalidInput(field, "needs data or the parameter binary_data_size, and not both")
    if size is None:
        return from_json(field, given.datatype, given.shape, given.data), rest
    if size > len(rest):
        raise InvalidInput(field, f"binary_data_size is {size}, but only {len(rest)} bytes are left of the body")
    return from_binary(field, given.datatype, given.shape, rest[:size]), rest[size:]
