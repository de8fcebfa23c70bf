"""Image classification over HTTP, against transformers' own pipeline for each picture alone."""

import asyncio
import base64
import concurrent.futures
import io
import json
import queue
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import torch
from PIL import Image
from tests.unit.serving.tiny import config_for
from tests.unit.serving.tiny_pictures import LABELS, as_file, picture, write_resnet, write_vit
from transformers import ConvNextImageProcessorPil, MobileViTImageProcessorPil, pipeline

from modelyard_serving.contract import EngineConfig, ModelConfig, Proof, Task
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.models import picture_bounds, picture_decoding
from modelyard_serving.models.picture_bounds import BadPicture
from modelyard_serving.models.picture_decoding import decode, decoded
from modelyard_serving.models.picture_inputs import ProcessedPictures, SteppedPictures, inputs_of
from modelyard_serving.replica import Replica

MODEL = "team-a/tiny"
WIDE = as_file(picture(1, 90, 50), "JPEG")
FILES = [
    WIDE, as_file(picture(2, 40, 100), "PNG"), as_file(picture(3, 33, 33), "WEBP", lossless=True),
    as_file(picture(4, 300, 200, "L"), "PNG"), as_file(picture(5, 64, 48), "JPEG"), as_file(picture(6, 20, 10), "PNG"),
]  # fmt: skip


@asynccontextmanager
async def _replica(folder: Path, **changes: Any) -> AsyncIterator[Replica]:
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder, **changes))
    yield replica
    await asyncio.to_thread(replica.close)


def _client(replica: Replica) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://replica")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_resnet(tmp_path_factory.mktemp("models") / "resnet")


@pytest.fixture
async def served(resnet: Path, log: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with _replica(resnet) as replica, _client(replica) as client:
        yield client


def _entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


async def _send(client: httpx2.AsyncClient, raw: bytes, kind: str = "image/jpeg", **query: Any) -> Any:
    return await client.post("/v1/classify", content=raw, headers={"Content-Type": kind}, params=query)


async def _ask(client: httpx2.AsyncClient, pictures: Any, **fields: Any) -> Any:
    answer = await client.post("/v1/classify", json={"model": MODEL, "input": pictures} | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _found(labels: Any) -> dict[str, float]:
    return {each["label"]: each["score"] for each in labels}


def _pipeline(folder: Path, raw: bytes) -> dict[str, float]:
    classify = pipeline("image-classification", model=str(folder))
    return _found(classify(Image.open(io.BytesIO(raw)), top_k=len(LABELS)))


@pytest.mark.parametrize("write", [write_resnet, write_vit])
@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
async def test_the_scores_are_those_of_the_pipeline(tmp_path: Path, log: Path, write: Any, problem: str | None) -> None:
    folder = write(tmp_path / "model", problem_type=problem)
    async with _replica(folder) as replica, _client(replica) as client:
        alone = [(await _send(client, raw, top_k=9)).json()["data"][0] for raw in FILES]
        in_one = await _ask(client, [_base64(raw) for raw in FILES], top_k=9)
        at_once = await asyncio.gather(*(_send(client, raw, top_k=9) for raw in FILES * 4))
        url = await _ask(client, f"data:image/jpeg;base64,{_base64(WIDE)}")
        proof = Proof.model_validate_json((await client.get("/-/prove")).text)
    for place, raw in enumerate(FILES):
        wanted = _pipeline(folder, raw)
        assert _found(alone[place]["labels"]) == pytest.approx(wanted, abs=1e-4)
        assert [each["label"] for each in alone[place]["labels"]] == list(wanted)
        assert all(LABELS[each["index"]] == each["label"] for each in alone[place]["labels"])
        assert in_one["data"][place]["index"] == place
        for again in (in_one["data"][place], *(each.json()["data"][0] for each in at_once[place :: len(FILES)])):
            assert _found(again["labels"]) == pytest.approx(wanted, abs=1e-4)
    assert len(url["data"][0]["labels"]) == 5
    assert _found(url["data"][0]["labels"]) == pytest.approx(_found(alone[0]["labels"][:5]), abs=1e-4)
    assert "usage" not in url
    assert (proof.service, proof.tokens) == (MODEL, 0)


async def test_openai_s_client_reaches_it(tmp_path: Path, log: Path) -> None:
    async with _replica(write_vit(tmp_path / "model")) as replica:
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(replica, raise_app_exceptions=False))
        async with openai.AsyncOpenAI(base_url="http://replica/v1", api_key="none", http_client=http) as client:
            body = {"model": MODEL, "input": [_base64(WIDE)] * 3, "top_k": 1}
            answer: Any = await client.post("/classify", body=body, cast_to=object)
            body["input"] = [_base64(WIDE), "bm8gcGljdHVyZQ=="]
            with pytest.raises(openai.BadRequestError, match=r"input\.1: is no jpeg, png or webp") as caught:
                await client.post("/classify", body=body, cast_to=object)
    assert [len(each["labels"]) for each in answer["data"]] == [1, 1, 1]
    assert (caught.value.param, caught.value.code) == ("input.1", "invalid_image")


def _png_of(width: int, height: int) -> bytes:
    """A header that promises so many pixels, with next to nothing behind it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


ANIMATED = {"save_all": True, "append_images": [picture(8, 30, 30)]}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is no jpeg, png or webp"),
        (as_file(picture(1, 20, 20), "GIF"), "is no jpeg, png or webp"),
        (as_file(picture(1, 20, 20), "TIFF"), "is no jpeg, png or webp"),
        (WIDE[: len(WIDE) // 2], "is damaged: image file is truncated"),
        (WIDE[:40], "is"),
        (FILES[1][:-30], "is damaged"),
        (FILES[2][:-30], "is damaged"),
        (as_file(picture(7, 30, 30), "WEBP", **ANIMATED), "is animated, with 2 frames"),
        (as_file(picture(7, 30, 30), "PNG", **ANIMATED), "is animated, with 2 frames"),
        (_png_of(50_000, 50_000), "has 50000 x 50000 pixels; a picture may have 33554432: scale it down"),
        (_png_of(2, 65), "has 2 x 65 pixels; a side may be 32 times the other"),
        (_png_of(0, 5), "is"),
    ],
    ids=lambda value: value if isinstance(value, str) else len(value),
)
async def test_a_file_that_is_no_picture_is_told_so(served: httpx2.AsyncClient, raw: bytes, words: str) -> None:
    answer = await _send(served, raw)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "body", "invalid_image")
    assert f"body: {words}" in error["message"]
    assert (await _send(served, WIDE)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": []}, "input", "has 0 pictures: from 1 to 32"),
        ({"input": ["aGk="] * 33}, "input", "has 33 pictures"),
        ({"input": 7}, "input", "must be a picture in base64"),
        ({"input": ["aGk=", 7]}, "input", "must be a picture in base64"),
        ({"input": ""}, "input", "is empty"),
        ({"input": [_base64(WIDE), "no-base64!"]}, "input.1", "is no base64"),
        ({"input": "caf\u00e9"}, "input", "is no base64"),
        ({"input": "aGk"}, "input", "is no base64"),
        ({"input": "data:image/png,abc"}, "input", "is a data: URL without ;base64"),
        ({"input": "data:image/png;base64,"}, "input", "is empty"),
        ({"input": "http://169.254.169.254/latest"}, "input", "input is a URL, and this server fetches none"),
        ({"input": ["aGk=", "s3://bucket/cat.jpg"]}, "input", "input.1 is a URL, and this server fetches none"),
        ({"input": "file:///etc/passwd"}, "input", "fetches none"),
        ({"input": "/etc/passwd"}, "input", "is no"),
        ({"input": _base64(bytes(9 * 2**20))}, "input", "a picture may have 8388608"),
        ({}, "input", "Field required"),
        ({"input": "aGk=", "top_k": 0}, "top_k", "greater than or equal to 1"),
        ({"input": "aGk=", "threshold": 0.5}, "threshold", "does not support"),
    ],
)
async def test_a_wrong_request_is_told_by_its_field(
    served: httpx2.AsyncClient, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = await served.post("/v1/classify", json={"model": MODEL} | fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["message"]


@pytest.mark.parametrize(
    ("raw", "kind", "query", "status", "words"),
    [
        (WIDE, "image/jpeg", {"top_k": "none"}, 400, "top_k: Input should be a valid integer"),
        (WIDE, "image/jpeg", {"topk": "3"}, 400, "topk: this server does not support the field"),
        (WIDE, "image/jpeg", {"model": "other"}, 404, "there is no 'other' here"),
        (WIDE, "multipart/form-data; boundary=x", {}, 415, "send a picture as the body"),
        (WIDE, "text/plain", {}, 415, "send a picture as the body"),
        (WIDE, "application/x-www-form-urlencoded", {}, 400, "the body is not JSON"),
        (bytes(8 * 2**20 + 1), "image/jpeg", {}, 413, "the body is larger than 8388608 bytes"),
        (b" " * (16 * 2**20 + 1), "application/json", {}, 413, "the body is larger than 16777216 bytes"),
    ],
)
async def test_a_wrong_body_or_query_is_told(
    served: httpx2.AsyncClient, raw: bytes, kind: str, query: dict[str, str], status: int, words: str
) -> None:
    answer = await _send(served, raw, kind, **query)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


async def test_a_picture_as_the_body_may_say_what_json_says(served: httpx2.AsyncClient, log: Path) -> None:
    answer = await _send(served, WIDE, "application/octet-stream", model=MODEL, top_k=2, user="ann")
    [found] = answer.json()["data"]
    assert (found["object"], found["index"], len(found["labels"])) == ("classification", 0, 2)
    assert answer.json()["model"] == MODEL
    [request] = [entry for entry in _entries(log) if entry.get("endpoint") == "classify"]
    assert (request["user"], request["status"]) == ("ann", 200)


def _pixels(raw: bytes) -> Any:
    return np.asarray(decode(raw)).astype(int)


def test_orientation_is_as_exif_says() -> None:
    upright = picture(9, 40, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned right by 90 degrees
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    for kind in ("PNG", "WEBP", "JPEG"):
        raw = as_file(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {"quality": 100}))
        assert decode(raw).size == (40, 24)
        assert abs(_pixels(raw) - np.asarray(upright).astype(int)).mean() <= (4 if kind == "JPEG" else 0)


def test_every_kind_of_pixel_is_read_rightly() -> None:
    ramp = np.arange(0, 65536, 256).astype(np.uint16).reshape(16, 16)
    assert (_pixels(as_file(Image.fromarray(ramp), "PNG"))[:, :, 1] == ramp >> 8).all()
    cmyk = as_file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    assert abs(_pixels(cmyk)[4, 4] - [255, 0, 0]).max() <= 6
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert (_pixels(as_file(palette, "PNG", transparency=1)) == [10, 200, 30]).all()
    assert (_pixels(as_file(Image.new("RGBA", (3, 3), (9, 8, 7, 0)), "PNG")) == [9, 8, 7]).all()
    assert (_pixels(as_file(Image.new("LA", (3, 3), (9, 128)), "PNG")) == 9).all()
    assert (_pixels(as_file(Image.new("1", (1, 1), 1), "PNG")) == 255).all()


def test_pictures_of_many_pixels_are_held_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = as_file(picture(1, 40, 20), "PNG"), as_file(picture(2, 20, 5), "PNG")
    monkeypatch.setattr(picture_decoding, "ROOM", picture_decoding.Room(900))
    held: queue.Queue[tuple[int, int]] = queue.Queue()

    def hold(raw: bytes) -> None:
        with decoded(raw) as one:
            held.put(one.size)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with decoded(large):
            pool.submit(hold, small).result(timeout=60)  # there is room for it beside the large one
            waiting = pool.submit(hold, large)
            assert concurrent.futures.wait([waiting], timeout=0.05).not_done
        waiting.result(timeout=60)
    assert [held.get_nowait(), held.get_nowait()] == [(20, 5), (40, 20)]
    with pytest.raises(BadPicture, match="is no jpeg, png or webp"), decoded(b"no picture"):
        pass


def test_a_phone_s_jpeg_with_more_pictures_is_its_first() -> None:
    raw = as_file(picture(1, 30, 20), "MPO", save_all=True, append_images=[picture(2, 30, 20)])
    with Image.open(io.BytesIO(raw)) as opened:
        assert opened.format == "MPO"
    assert decode(raw).size == (30, 20)


def test_the_bounds_hold_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = as_file(picture(1, 32, 8), "PNG")
    monkeypatch.setattr(picture_bounds, "MAX_PIXELS", 256)
    monkeypatch.setattr(picture_bounds, "MAX_RATIO", 4)
    monkeypatch.setattr(picture_bounds, "MAX_PICTURE_BYTES", len(raw))
    assert decode(raw).size == (32, 8)
    with pytest.raises(BadPicture, match="bytes; a picture may have"):
        decode(raw + b" ")


@pytest.mark.parametrize(
    ("processor", "stepped"),
    [
        (ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.875), True),
        (ConvNextImageProcessorPil(size={"shortest_edge": 384}), True),
        (ConvNextImageProcessorPil(size={"shortest_edge": 32}, do_normalize=False), True),
        (MobileViTImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 30, "width": 30}), False),
    ],
)
def test_steps_take_the_processor_s_place_where_they_do_the_same(processor: Any, stepped: bool) -> None:
    inputs = inputs_of(processor)
    assert isinstance(inputs, SteppedPictures) == stepped
    for raw in (WIDE, as_file(picture(3, 500, 37), "PNG"), as_file(picture(4, 1, 1), "PNG")):
        found = inputs.join([inputs.prepare(raw)] * 2, "cpu", torch.float32)
        wanted = processor(images=[decode(raw)] * 2, return_tensors="pt")
        assert found.keys() == wanted.keys()
        torch.testing.assert_close(found["pixel_values"], wanted["pixel_values"], rtol=1e-4, atol=1e-4)


async def test_pictures_of_different_shapes_share_a_batch(tmp_path: Path, log: Path) -> None:
    processor = ConvNextImageProcessorPil(do_resize=False)
    folder = write_resnet(tmp_path / "model", processor=processor)
    assert isinstance(inputs_of(processor), SteppedPictures | ProcessedPictures)
    async with _replica(folder) as replica, _client(replica) as client:
        answer = await _ask(client, [_base64(raw) for raw in FILES], top_k=9)
    for place, raw in enumerate(FILES):
        assert _found(answer["data"][place]["labels"]) == pytest.approx(_pipeline(folder, raw), abs=1e-4)


async def test_decoding_blocks_neither_the_loop_nor_the_queue_s_bound(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_vit(tmp_path / "model")
    async with (
        _replica(folder, engine=EngineConfig(max_running=1, max_queued=2)) as replica,
        _client(replica) as client,
    ):
        assert replica._service is not None
        model: Any = replica._service.loaded.model
        held, prepare = asyncio.Event(), model._prepare
        loop = asyncio.get_running_loop()

        def slowly(raw: Any) -> Any:
            asyncio.run_coroutine_threadsafe(held.wait(), loop).result(20)
            return prepare(raw)

        model._prepare = slowly
        asked = [asyncio.create_task(_send(client, WIDE)) for _ in range(3)]
        async with asyncio.timeout(10):
            while model.stats().queued < 3:  # noqa: ASYNC110 - the engine has no event of ours
                await asyncio.sleep(0.001)
        refused = await _send(client, WIDE)
        held.set()
        answers = await asyncio.gather(*asked)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_a_client_that_leaves_frees_its_place(tmp_path: Path, log: Path) -> None:
    async with _replica(write_vit(tmp_path / "model")) as replica:
        body = json.dumps({"model": MODEL, "input": [_base64(WIDE)] * 32}).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/v1/classify", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json")], "http_version": "1.1",
        }  # fmt: skip
        await replica(scope, receive, send)
        assert replica._service is not None
        model = replica._service.loaded.model
        async with asyncio.timeout(10):
            while model.stats().queued:  # noqa: ASYNC110 - the engine has no event of ours
                await asyncio.sleep(0)
    assert sent[0]["status"] == 499


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
        (lambda folder: (folder / "preprocessor_config.json").write_text("{"), "preprocessor_config.json"),
        (lambda folder: _change(folder, id2label={"0": "cat"}), "the weights lack"),
        (lambda folder: _change(folder, model_type="bert"), "no AutoModelForImageClassification of type bert"),
    ],
)
async def test_a_folder_that_cannot_be_served(tmp_path: Path, log: Path, damage: Any, words: str) -> None:
    folder = write_resnet(tmp_path / "model")
    damage(folder)
    with pytest.raises(StartFailure) as caught:
        await Replica(Journal.open()).configure(config_for(folder))
    assert words in caught.value.message


async def test_the_task_may_be_named(tmp_path: Path, log: Path) -> None:
    folder = write_resnet(tmp_path / "model")
    _change(folder, architectures=None)
    model = ModelConfig(uri="pvc://models/tiny", path=str(folder), task=Task.IMAGE_CLASSIFICATION)
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder).model_copy(update={"model": model}))
    async with _client(replica) as client:
        assert (await _send(client, WIDE)).status_code == 200
    await asyncio.to_thread(replica.close)


def _change(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
