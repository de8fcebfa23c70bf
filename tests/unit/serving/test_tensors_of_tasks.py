"""Tasks on texts and pictures by Triton's own client: the same numbers as by OpenAI's API."""

import base64
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import tritonclient.http as triton
from tests.unit.serving.served import served
from tests.unit.serving.tiny_encoder import SIZE, write_encoder
from tests.unit.serving.tiny_pictures import as_file, picture, write_resnet
from tritonclient.utils import InferenceServerException

MODEL = "team-a/tiny"
TEXTS = ["the quick brown fox", "texts to many clients"]


def _ask(address: str, texts: list[bytes], name: str = "text") -> Any:
    given = triton.InferInput(name, [len(texts)], "BYTES")
    given.set_data_from_numpy(np.array(texts, dtype=object))
    with triton.InferenceServerClient(address) as client:
        return client.infer(MODEL, [given])


def test_embeddings(tmp_path: Path) -> None:
    with served(write_encoder(tmp_path / "encoder")) as address:
        result = _ask(address, [text.encode() for text in TEXTS])
        body = {"model": MODEL, "input": TEXTS, "encoding_format": "float"}
        answer = httpx2.post(f"http://{address}/v1/embeddings", json=body).json()
        metadata = httpx2.get(f"http://{address}/v2/models/{MODEL}").json()
        with pytest.raises(InferenceServerException, match=r"inputs.text.1: is no UTF-8"):
            _ask(address, [b"the", b"\xff"])
        with pytest.raises(InferenceServerException, match=r"dimension 0 must be 1 to 2048"):
            _ask(address, [b"the"] * 2049)
        with pytest.raises(InferenceServerException, match=r"input.0: must not be empty"):
            _ask(address, [b""])
    expected = [each["embedding"] for each in answer["data"]]
    np.testing.assert_allclose(result.as_numpy("embedding"), expected, rtol=1e-5, atol=1e-6)
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, SIZE]}]


def test_classification(tmp_path: Path) -> None:
    with served(write_encoder(tmp_path / "encoder", labels={0: "gut", 1: "schön", 2: "schlecht"})) as address:
        result = _ask(address, [text.encode() for text in TEXTS])
        answer = httpx2.post(f"http://{address}/v1/classify", json={"model": MODEL, "input": TEXTS}).json()
    labels = [[scored["label"] for scored in each["labels"]] for each in answer["data"]]
    scores = [[scored["score"] for scored in each["labels"]] for each in answer["data"]]
    assert [[label.decode() for label in row] for row in result.as_numpy("label")] == labels
    np.testing.assert_allclose(result.as_numpy("score"), scores, rtol=1e-5)


def test_pictures(tmp_path: Path) -> None:
    files = [as_file(picture(seed, 40, 50), "PNG") for seed in (1, 2)]
    with served(write_resnet(tmp_path / "resnet")) as address:
        result = _ask(address, files, "image")
        body = {"model": MODEL, "input": [base64.b64encode(file).decode() for file in files], "top_k": 1000}
        answer = httpx2.post(f"http://{address}/v1/classify", json=body).json()
        with pytest.raises(InferenceServerException, match=r"inputs.image.1: "):
            _ask(address, [files[0], b"no picture"], "image")
        with pytest.raises(InferenceServerException, match=r"dimension 0 must be 1 to 32"):
            _ask(address, [b""] * 33, "image")
    labels = [[scored["label"] for scored in each["labels"]] for each in answer["data"]]
    scores = [[scored["score"] for scored in each["labels"]] for each in answer["data"]]
    assert [[label.decode() for label in row] for row in result.as_numpy("label")] == labels
    np.testing.assert_allclose(result.as_numpy("score"), scores, rtol=1e-4)
