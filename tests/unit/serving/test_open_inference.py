"""The Open Inference Protocol as Triton's own client speaks it, and as nobody should."""

import concurrent.futures
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
import tritonclient.http as triton
from tests.unit.serving.served import served
from tests.unit.serving.tiny_program import DTYPES, Digits, write_digits, write_types, write_weighted
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from modelyard_serving.http.tensor_data import check_shape
from modelyard_serving.tasks.invalid import InvalidInput

MODEL = "team-a/tiny"
INFER = f"/v2/models/{MODEL}/infer"
HEADER = "Inference-Header-Content-Length"
PICTURES = np.random.default_rng(1).random((5, 1, 28, 28), np.float32)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_digits(tmp_path_factory.mktemp("programs") / "digits")) as address:
        yield address


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_types(tmp_path_factory.mktemp("programs") / "types")) as address:
        yield address


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_weighted(tmp_path_factory.mktemp("programs") / "weighted")) as address:
        yield address


@pytest.fixture
def client(digits: str) -> Iterator[Any]:
    with triton.InferenceServerClient(digits) as client:
        yield client


def _input(name: str, array: Any, *, binary: bool = True) -> Any:
    given = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def _expected(pictures: Any) -> Any:
    with torch.inference_mode():
        return Digits()(torch.tensor(pictures))["logits"].numpy()


def test_triton_s_client_finds_the_model(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, model_version="0123abcd")
    assert not client.is_model_ready("team-a/other")
    assert not client.is_model_ready(MODEL, model_version="7")
    server = client.get_server_metadata()
    assert (server["name"], server["extensions"]) == ("modelyard", ["binary_tensor_data"])
    assert client.get_model_metadata(MODEL) == {
        "name": MODEL,
        "versions": ["0123abcd"],
        "platform": "pytorch_export",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 28, 28]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "mean", "datatype": "FP32", "shape": [-1]},
        ],
    }


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_triton_s_client_gets_the_program_s_numbers(client: Any, binary_in: bool, binary_out: bool) -> None:
    result = client.infer(
        MODEL, [_input("image", PICTURES, binary=binary_in)], request_id="seven",
        outputs=[triton.InferRequestedOutput("logits", binary_data=binary_out)],
    )  # fmt: skip
    np.testing.assert_allclose(result.as_numpy("logits"), _expected(PICTURES), atol=1e-5)
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("seven", MODEL, "0123abcd")
    assert [output["name"] for output in answer["outputs"]] == ["logits"]


def test_all_outputs_come_where_none_is_named(client: Any) -> None:
    result = client.infer(MODEL, [_input("image", PICTURES)])
    assert result.as_numpy("logits").shape == (5, 10)
    np.testing.assert_allclose(result.as_numpy("mean"), PICTURES.mean((1, 2, 3)), atol=1e-6)


def test_more_rows_than_the_program_takes_at_once_are_computed_in_pieces(client: Any) -> None:
    many = np.random.default_rng(2).random((150, 1, 28, 28), np.float32)
    result = client.infer(MODEL, [_input("image", many)])
    np.testing.assert_allclose(result.as_numpy("logits"), _expected(many), atol=1e-5)


def test_triton_s_client_is_told_what_is_wrong(client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"inputs.image.shape: is \[5, 784\]; the model takes") as told:
        client.infer(MODEL, [_input("image", PICTURES.reshape(5, 784))])
    assert told.value.status() == "400"
    with pytest.raises(InferenceServerException, match="there is no 'team-a/other' here") as told:
        client.infer("team-a/other", [_input("image", PICTURES)])
    assert told.value.status() == "404"
    with pytest.raises(InferenceServerException, match="Content-Encoding 'gzip' is not taken") as told:
        client.infer(MODEL, [_input("image", PICTURES)], request_compression_algorithm="gzip")
    assert told.value.status() == "415"
    with pytest.raises(InferenceServerException, match="priority: this server does not support the field"):
        client.infer(MODEL, [_input("image", PICTURES)], priority=3)


VALUES: dict[str, list[Any]] = {
    "bool": [True, False, True],
    "uint8": [0, 7, 255],
    "int8": [-128, 0, 127],
    "int16": [-(2**15), 1, 2**15 - 1],
    "int32": [-(2**31), 1, 2**31 - 1],
    "int64": [-(2**63), 1, 2**63 - 1],
    "float16": [-65504.0, 0.5, 6e-8],
    "bfloat16": [-1.5, 0.0, 2.0**100],
    "float32": [-1.5, 1e-45, 3.4028234663852886e38],
    "float64": [-1.5, 5e-324, 1.7976931348623157e308],
}


def _tensor_of(dtype: str) -> torch.Tensor:
    return torch.tensor(VALUES[dtype], dtype=getattr(torch, dtype))


def _datatype(dtype: str) -> str:
    return {"bool": "BOOL", "bfloat16": "BF16"}.get(dtype) or dtype.upper().replace("FLOAT", "FP")


def test_every_type_goes_in_and_out_in_binary(types: str) -> None:
    raw = {dtype: _tensor_of(dtype).view(torch.uint8).numpy().tobytes() for dtype in DTYPES}
    inputs = [
        {"name": f"{dtype}_in", "datatype": _datatype(dtype), "shape": [3],
         "parameters": {"binary_data_size": len(raw[dtype])}}
        for dtype in DTYPES
    ]  # fmt: skip
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = header + b"".join(raw.values())
    answer = httpx2.post(f"http://{types}{INFER}", content=body, headers={HEADER: str(len(header))})
    assert answer.status_code == 200, answer.text
    length = int(answer.headers[HEADER])
    outputs = json.loads(answer.content[:length])["outputs"]
    assert [output["datatype"] for output in outputs] == [_datatype(dtype) for dtype in DTYPES]
    assert answer.content[length:] == b"".join(raw.values())


def test_every_type_goes_in_and_out_in_json(types: str) -> None:
    inputs = [
        {"name": f"{dtype}_in", "datatype": _datatype(dtype), "shape": [3], "data": _tensor_of(dtype).tolist()}
        for dtype in DTYPES
    ]
    answer = httpx2.post(f"http://{types}{INFER}", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    for dtype, output in zip(DTYPES, answer.json()["outputs"], strict=True):
        assert torch.equal(torch.tensor(output["data"], dtype=getattr(torch, dtype)), _tensor_of(dtype)), dtype


def test_requests_of_one_shape_are_joined_and_others_are_not(weighted: str) -> None:
    """`output_1` is how many rows the program saw at once; the result for a row does not depend on it."""

    def ask(rows: int, length: int) -> tuple[Any, Any]:
        values = np.arange(rows * length, dtype=np.float32).reshape(rows, length)
        weights = np.full((rows, length), 2, np.float32)
        with triton.InferenceServerClient(weighted) as client:
            result = client.infer(MODEL, [_input("values", values), _input("weights", weights)])
        np.testing.assert_allclose(result.as_numpy("output_0"), values.sum(1) * 2)
        return result.as_numpy("output_1"), rows

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda number: ask(1 + number % 3, 4 + number % 2), range(48)))
    assert all((together >= rows).all() for together, rows in seen)


def test_sizes_of_one_name_must_be_the_same(weighted: str) -> None:
    with triton.InferenceServerClient(weighted) as client, pytest.raises(InferenceServerException) as told:
        client.infer(
            MODEL, [_input("values", np.ones((2, 3), np.float32)), _input("weights", np.ones((2, 4), np.float32))]
        )
    assert str(told.value.message()) == (
        "inputs.weights.shape: is [2, 4]; dimension 1 must be 3, as dimension 1 of values is"
    )


def _json(**changes: Any) -> bytes:
    given = {"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": [0.5] * 784} | changes
    return json.dumps({"inputs": [{key: value for key, value in given.items() if value is not None}]}).encode()


def _binary(payload: bytes, *, length: str | None = None, size: int = 3136, **changes: Any) -> tuple[bytes, str]:
    header = _json(data=None, parameters={"binary_data_size": size}, **changes)
    return header + payload, str(len(header)) if length is None else length


FLOATS = bytes(3136)
WRONG: list[tuple[str, bytes | tuple[bytes, str], str]] = [
    ("not JSON", b"{", "the JSON of the body is none: EOF while parsing"),
    ("not an object", b"[]", "body: Input should be a valid dictionary"),
    ("not UTF-8", b'{"id": "\xff"}', "the JSON of the body is none: invalid unicode"),
    ("NaN", _json().replace(b"[0.5", b"[NaN"), "the JSON of the body is none: expected value"),
    ("infinity", _json().replace(b"[0.5", b"[1e999"), "which FP32 has not|too large for FP32|out of range"),
    ("too large", _json(data=[1e39] * 784), "inputs.image.data: has a value that is too large for FP32"),
    ("a text", _json(data=["x"] * 784), r"inputs.image.data: has 'x' \(str\), which FP32 has not"),
    ("a boolean", _json(data=[True] * 784), r"has 'True' \(bool\), which FP32 has not"),
    ("no inputs", b"{}", "inputs: Field required"),
    ("empty inputs", b'{"inputs": []}', "inputs: List should have at least 1 item"),
    ("unknown field", b'{"inputs": [], "model": 1}', "model: this server does not support the field"),
    ("unknown parameter", _json(parameters={"shared_memory_region": "x"}), "shared_memory_region: this server"),
    ("unknown type", _json(datatype="FP8"), "inputs.0.datatype: Input should be 'BOOL'"),
    ("wrong type", _json(datatype="FP64"), "inputs.image.datatype: is FP64; the model takes FP32"),
    ("wrong shape", _json(shape=[784]), r"inputs.image.shape: is \[784\]; the model takes \[-1, 1, 28, 28\]"),
    ("wrong size", _json(shape=[1, 1, 56, 14]), r"dimension 2 must be 28"),
    ("no rows", _json(shape=[0, 1, 28, 28], data=[]), "dimension 0 must be at least 1"),
    ("negative", _json(shape=[-1, 1, 28, 28]), r"inputs.image.shape: is \[-1, 1, 28, 28\]; sizes are from 0"),
    ("huge", _json(shape=[2**62, 2**62, 28, 28]), "inputs.image.shape: is .*; sizes are from 0, 32 at most"),
    ("hidden by zero", _json(shape=[2**62, 0], data=[]), "sizes are from 0, 32 at most, of 2147483648 values"),
    ("hidden by zero, each small", _json(shape=[0, 2**31, 2**31, 2**31], data=[]), "sizes are from 0, 32 at most"),
    ("many dimensions", _json(shape=[1] * 100), "sizes are from 0, 32 at most"),
    ("shape of floats", _json(shape=[1.5]), "inputs.0.shape.0: Input should be a valid integer"),
    ("too few values", _json(data=[0.5]), r"inputs.image.data: has 1 values; the shape \[1, 1, 28, 28\] has 784"),
    ("badly nested", _json(data=[[[0.5] * 784]]), "inputs.image.data: is not nested as the shape"),
    ("data is no list", _json(data=0.5), "inputs.image.data: must be a list of values"),
    ("missing input", _json(name="picture"), "inputs.picture: the model has no such input; it has image"),
    ("no data", _json(data=None), "inputs.image: needs data or the parameter binary_data_size"),
    ("data twice", _json(parameters={"binary_data_size": 4}), "inputs.image: needs data or the parameter"),
    ("twice", json.dumps({"inputs": json.loads(_json())["inputs"] * 2}).encode(), "inputs.image: is there twice"),
    (
        "unknown output", json.dumps(json.loads(_json()) | {"outputs": [{"name": "cat"}]}).encode(),
        "outputs.cat: the model has no such output; it has logits, mean",
    ),
    (
        "output twice", json.dumps(json.loads(_json()) | {"outputs": [{"name": "mean"}] * 2}).encode(),
        "outputs.mean: is there twice",
    ),
    ("bytes too short", _binary(FLOATS[:-4]), "inputs.image: binary_data_size is 3136, but only 3132 bytes are left"),
    ("bytes too many", _binary(FLOATS + b"1234"), "inputs: leave 4 bytes of binary data over"),
    ("size too small", _binary(FLOATS[:-4], size=3132), r"inputs.image: has 3132 bytes; FP32 of shape .* has 3136"),
    ("negative size", _binary(FLOATS, size=-1), "binary_data_size: Input should be greater than or equal to 0"),
    ("header too long", _binary(FLOATS, length="999999"), f"{HEADER} is '999999'; it must be the length of the JSON"),
    ("header too short", _binary(FLOATS, length="9"), "the JSON of the body is none: EOF"),
    ("header none", _binary(FLOATS, length="0"), f"{HEADER} is '0'"),
    ("header negative", _binary(FLOATS, length="-5"), f"{HEADER} is '-5'"),
    ("header no number", _binary(FLOATS, length="many"), f"{HEADER} is 'many'"),
    ("header huge", _binary(FLOATS, length="9" * 5000), f"{HEADER} is '9+'"),
    ("header over the bytes", _binary(FLOATS, length="500"), "the JSON of the body is none"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "told"), [pytest.param(body, told, id=name) for name, body, told in WRONG])
def test_a_wrong_request_is_told_what_is_wrong(digits: str, body: bytes | tuple[bytes, str], told: str) -> None:
    content, headers = (body, {}) if isinstance(body, bytes) else (body[0], {HEADER: body[1]})
    answer = httpx2.post(f"http://{digits}{INFER}", content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert re.search(told, answer.json()["error"]), answer.json()["error"]


def test_a_missing_input_is_named(weighted: str) -> None:
    body = {"inputs": [{"name": "values", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
    answer = httpx2.post(f"http://{weighted}{INFER}", json=body)
    assert answer.json() == {"error": "inputs.weights: is missing; the model's inputs are values, weights"}


def test_a_body_over_the_bound_is_refused_before_it_is_there(digits: str) -> None:
    answer = httpx2.post(f"http://{digits}{INFER}", content=bytes(32 * 2**20 + 1))
    assert (answer.status_code, answer.json()) == (413, {"error": "the body is larger than 33554432 bytes"})


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/v2/nothing", 404, "there is no /v2/nothing"),
        ("GET", "/v2/models/other", 404, "model: there is no 'other' here; this service is 'team-a/tiny'"),
        ("GET", f"/v2/models/{MODEL}/versions/7", 404, "there is no version '7' here; this is '0123abcd'"),
        ("GET", INFER, 404, "model: there is no 'team-a/tiny/infer' here; this service is 'team-a/tiny'"),
        ("POST", "/v2/health/live", 405, "/v2/health/live does not take POST"),
    ],
)
def test_wrong_paths_are_told_in_the_protocol_s_shape(
    digits: str, method: str, path: str, status: int, told: str
) -> None:
    answer = httpx2.request(method, f"http://{digits}{path}")
    assert (answer.status_code, answer.json()) == (status, {"error": told})


def test_values_that_json_cannot_write_are_asked_for_in_binary(weighted: str) -> None:
    infinite = struct.pack("<f", float("inf"))
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}
        for name in ("values", "weights")
    ]
    for binary, status in ((False, 400), (True, 200)):
        header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": binary}}).encode()
        headers = {HEADER: str(len(header))}
        answer = httpx2.post(f"http://{weighted}{INFER}", content=header + infinite * 2, headers=headers)
        assert answer.status_code == status, answer.text
        if not binary:
            told = "outputs.output_0: has NaN or infinity, which JSON cannot write; ask for it as binary data"
            assert answer.json() == {"error": told}


def test_a_request_leaves_a_line_and_its_numbers(tmp_path: Path, log: Path) -> None:
    with served(write_digits(tmp_path / "digits")) as address:
        httpx2.post(f"http://{address}{INFER}", content=_json())
        metrics = httpx2.get(f"http://{address}/-/metrics").text
    [line] = [json.loads(line) for line in log.read_text().splitlines() if '"v2.infer"' in line]
    assert (line["status"], line["method"]) == (200, "POST")
    assert 'modelyard_requests_total{endpoint="v2.infer"' in metrics
    assert 'gen_ai_operation_name="v2.infer"' in metrics


def test_a_shape_of_a_hundred_thousand_sizes_is_refused_before_they_are_multiplied() -> None:
    class Untouched(list[int]):
        def __iter__(self) -> Iterator[int]:
            raise AssertionError("each product would be longer than the one before: hours for one request")

    with pytest.raises(InvalidInput, match="sizes are from 0, 32 at most"):
        check_shape("inputs.image", Untouched([999_999_999] * 100_000))
