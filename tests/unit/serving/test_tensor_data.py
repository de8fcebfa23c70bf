"""Values of tensors on the wire: what goes out comes back, and nothing that comes in breaks the reader."""

import json
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelyard_serving.http.errors import ApiError
from modelyard_serving.http.infer_messages import parse
from modelyard_serving.http.tensor_data import from_binary, from_json, to_binary, to_json
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.tensors import STORED, Datatype

NUMBERS = [datatype for datatype in Datatype if datatype not in (Datatype.BYTES, Datatype.BOOL)]


@given(st.sampled_from(NUMBERS), st.binary(max_size=64))
def test_bits_are_kept(datatype: Datatype, data: bytes) -> None:
    count = len(data) // STORED[datatype].itemsize
    whole = data[: count * STORED[datatype].itemsize]
    assert to_binary(datatype, from_binary("x", datatype, [count], memoryview(whole))) == whole


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_texts_are_kept(texts: list[bytes]) -> None:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    wire = to_binary(Datatype.BYTES, array)
    assert list(from_binary("x", Datatype.BYTES, [len(texts)], memoryview(wire))) == texts


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32)))
def test_bfloat16_is_rounded_as_torch_does(values: list[float]) -> None:
    array = from_json("x", Datatype.BF16, [len(values)], values)
    expected = torch.tensor(values, dtype=torch.float32).to(torch.bfloat16)
    assert to_binary(Datatype.BF16, array) == expected.view(torch.uint8).numpy().tobytes()
    assert to_json("x", Datatype.BF16, array) == expected.tolist()


SHAPES = st.lists(st.one_of(st.integers(-2, 6), st.integers(-(2**70), 2**70)), max_size=4)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
INPUTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b"]), "shape": SHAPES, "datatype": st.sampled_from([*Datatype, "FP8"])},
    optional={
        "data": st.one_of(JSON, st.lists(st.integers(0, 1), max_size=6)),
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 40)}),
    },
)
LENGTHS = st.one_of(st.none(), st.integers(-2, 400).map(str), st.text(max_size=5))


@given(st.lists(INPUTS, max_size=3), st.binary(max_size=40), LENGTHS, st.booleans())
def test_whatever_comes_is_read_or_refused(inputs: list[Any], rest: bytes, length: str | None, right: bool) -> None:
    header = json.dumps({"inputs": inputs}).encode()
    try:
        _, tensors = parse(header + rest, str(len(header)) if right else length)
    except (ApiError, InvalidInput):
        return
    for given_, tensor in zip(inputs, tensors.values(), strict=True):
        assert tensor.array.shape == tuple(given_["shape"])
        assert tensor.array.dtype == STORED[tensor.datatype]


@given(st.binary(max_size=200), LENGTHS)
def test_bytes_that_are_nothing_are_refused(raw: bytes, length: str | None) -> None:
    try:
        parse(raw, length)
    except (ApiError, InvalidInput):
        return
    raise AssertionError("these bytes are a request")
