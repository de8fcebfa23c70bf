"""The task recommend over HTTP, against what a pencil computes, and what keeps a recommender from starting."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import save_file
from tests.unit.serving import tiny_recommender as tiny
from tests.unit.serving.tiny import config_for
from tests.unit.serving.tiny_program import tensor

from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.package.description import PackageDescription
from modelyard_serving.package.writing import write_package
from modelyard_serving.replica import Replica

MODEL = "team-a/tiny"
PATH = "/v1/recommend"


@pytest.fixture(scope="module")
def by_user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_by_user(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def by_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_by_items(tmp_path_factory.mktemp("items"))


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder))
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://replica") as client:
        yield client
    await asyncio.to_thread(replica.close)


async def _recommended(client: httpx2.AsyncClient, **fields: Any) -> list[tuple[str, float]]:
    answer = await client.post(PATH, json={"model": MODEL} | fields)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["object"], body["model"]) == ("list", MODEL)
    return [(each["id"], each["score"]) for each in body["data"]]


async def test_a_user_gets_the_best_of_what_is_new(log: Path, by_user: Path) -> None:
    async with _serving(by_user) as client:
        assert await _recommended(client, user_id="ann") == [("bread", 4.0), ("dates", 2.0), ("éclair", 1.0)]
        assert await _recommended(client, user_id="ann", k=1) == [("bread", 4.0)]
        assert await _recommended(client, user_id="ann", exclude=["bread", "a new one"], k=1) == [("dates", 2.0)]
        everything = await _recommended(client, user_id="ann", exclude_seen=False)
        assert everything == list(zip(tiny.ITEMS, tiny.TASTES[0], strict=True))
        proof = await client.get("/-/prove")
    assert proof.status_code == 200


async def test_equal_scores_come_in_the_order_of_the_catalogue(log: Path, by_user: Path) -> None:
    async with _serving(by_user) as client:
        found = await _recommended(client, user_id="bob")
    assert [name for name, _ in found] == ["bread", "cheese", "dates", "apple", "éclair"]


async def test_what_has_no_finite_score_is_not_recommended(log: Path, by_user: Path) -> None:
    async with _serving(by_user) as client:
        assert await _recommended(client, user_id="陈") == [("cheese", 1.5), ("apple", 0.5)]


async def test_items_lead_to_those_that_are_near(log: Path, by_items: Path) -> None:
    async with _serving(by_items) as client:
        found = await _recommended(client, items=["apple", "bread"])
        assert found == [("cheese", 3.0), ("éclair", 0.5), ("dates", 0.0)]
        with_seen = await _recommended(client, items=["apple", "bread"], exclude_seen=False, k=3)
        assert with_seen == [("apple", 3.0), ("bread", 3.0), ("cheese", 3.0)]


async def test_requests_of_any_length_go_together(log: Path, by_items: Path) -> None:
    histories = [[name] for name in tiny.ITEMS] + [tiny.ITEMS[:2], tiny.ITEMS[1:4], tiny.ITEMS[:4]]
    async with _serving(by_items) as client:
        alone = [await _recommended(client, items=items) for items in histories]
        together = await asyncio.gather(*(_recommended(client, items=items) for items in histories * 4))
    assert together == alone * 4


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "set one of user_id and items"),
        ({"user_id": "ann", "items": ["apple"]}, "set one of user_id and items"),
        ({"user": "ann"}, "user is only for the request log"),
        ({"user_id": "nobody"}, "user_id: the model knows no user 'nobody'"),
        ({"user_id": 7}, "user_id: Input should be a valid string"),
        ({"user_id": ""}, "user_id: String should have at least 1 character"),
        ({"user_id": "x" * 257}, "user_id: String should have at most 256 characters"),
        ({"items": ["apple"]}, "items: this model recommends to users that it knows; send user_id"),
        ({"user_id": "ann", "k": 0}, "k: Input should be greater than or equal to 1"),
        ({"user_id": "ann", "k": 1001}, "k: Input should be less than or equal to 1000"),
        ({"user_id": "ann", "exclude": ["x"] * 10_001}, "exclude: Tuple should have at most 10000 items"),
        ({"user_id": "ann", "top_k": 3}, "top_k: this server does not support the field"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(log: Path, by_user: Path, fields: Any, words: str) -> None:
    async with _serving(by_user) as client:
        answer = await client.post(PATH, json={"model": MODEL} | fields)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"user_id": "ann"}, "user_id: this model knows no users; send items"),
        (
            {"items": ["fig", "grape", "x", "y"]},
            "items: the model knows no item 'fig', 'grape', 'x' and 1 more",
        ),
        ({"items": ["apple"] * 5}, "items: has 5 ids; the model takes 4 at most"),
        ({"items": ["apple"] * 1001}, "items: Tuple should have at most 1000 items"),
    ],
)
async def test_items_that_cannot_be_are_refused(log: Path, by_items: Path, fields: Any, words: str) -> None:
    async with _serving(by_items) as client:
        answer = await client.post(PATH, json={"model": MODEL} | fields)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


async def test_seen_items_cannot_be_left_out_where_they_are_not_known(log: Path, tmp_path: Path) -> None:
    folder = tiny.write_by_user(tmp_path / "model", recommendation={"items": "items.txt", "users": "users.txt"})
    async with _serving(folder) as client:
        assert len(await _recommended(client, user_id="ann")) == 5
        answer = await client.post(PATH, json={"model": MODEL, "user_id": "ann", "exclude_seen": True})
    assert answer.status_code == 400
    assert "exclude_seen: the model's package does not say" in answer.json()["error"]["message"]


def _described(folder: Path) -> dict[str, Any]:
    described: dict[str, Any] = yaml.safe_load((folder / "modelyard.yaml").read_text())
    return described


def _spoilt(package: Path, folder: Path, spoil: Callable[[Path], None]) -> Path:
    """A copy of the package in which the checksums fit and a file does not."""
    shutil.copytree(package, folder)
    about = _described(folder)
    spoil(folder)
    write_package(folder, {name: about[name] for name in about.keys() - {"format", "files"}})
    return folder


def _seen(offsets: list[int], items: list[int]) -> Callable[[Path], None]:
    tensors = {"offsets": torch.tensor(offsets), "items": torch.tensor(items, dtype=torch.long)}
    return lambda folder: save_file(tensors, folder / "seen.safetensors")


def _ids(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(text.encode("latin-1"))

    return write


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_ids("items.txt", "a\nb\n"), "items.txt has 2 ids, but the program scores 5 items"),
        (_ids("items.txt", "a\nb\n\nd\ne\n"), "items.txt: the id in line 3 has 0 characters"),
        (_ids("items.txt", "a\nb\nc\nb\ne\n"), "items.txt: 'b' is in line 2 and again in line 4"),
        (_ids("items.txt", "a\nb\nc\nd\n\xe9\n"), "items.txt is not UTF-8"),
        (_seen([0, 1, 2], [0, 0]), r"offsets must be int64 \(4,\)"),
        (_seen([0, 2, 1, 2], [0, 0]), "offsets must go from 0 to the number of items, 2, and never back"),
        (_seen([0, 1, 2, 3], [0, 0]), "offsets must go from 0 to the number of items, 2, and never back"),
        (_seen([0, 1, 2, 2], [0, 5]), "items has a place that is none of the 5 items'"),
        (_seen([0, 1, 2, 2], [0, -1]), "items has a place that is none of the 5 items'"),
        (_ids("seen.safetensors", "no"), "seen.safetensors is no safetensors file"),
    ],
)
async def test_damaged_files_keep_it_from_starting(
    log: Path, tmp_path: Path, by_user: Path, spoil: Callable[[Path], None], words: str
) -> None:
    folder = _spoilt(by_user, tmp_path / "model", spoil)
    with pytest.raises(StartFailure, match=words):
        await Replica(Journal.open()).configure(config_for(folder))


async def test_more_users_than_the_program_has_keep_it_from_starting(log: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "users.txt").write_text("a\nb\nc\nd\n")
    folder = tiny.write_by_user(model, recommendation={"items": "items.txt", "users": "users.txt"})
    with pytest.raises(StartFailure, match=r"the program fails on the last of 4 ids in users\.txt"):
        await Replica(Journal.open()).configure(config_for(folder))


async def test_a_program_that_takes_no_request_alone_is_refused(log: Path, tmp_path: Path) -> None:
    folder = tiny.write_by_user(tmp_path / "model", least=2)
    with pytest.raises(StartFailure, match="the program takes 2 requests at once or more; export it for 1 or more"):
        await Replica(Journal.open()).configure(config_for(folder))


async def test_damaged_weights_keep_it_from_starting(log: Path, tmp_path: Path) -> None:
    folder = tiny.write_by_user(tmp_path / "model", tiny.ByUser([[float("nan")] * 5] * 3))
    with pytest.raises(StartFailure, match="no numbers"):
        await Replica(Journal.open()).configure(config_for(folder))


async def test_a_program_that_scores_the_filling_is_refused(log: Path, tmp_path: Path) -> None:
    folder = tiny.write_by_items(tmp_path / "model", tiny.ByItems(filling=1.0))
    with pytest.raises(StartFailure, match="5, with which short lists of items are filled up, must count for nothing"):
        await Replica(Journal.open()).configure(config_for(folder))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recommendation": None}, "recommendation: is missing"),
        ({"task": "tensor"}, "recommendation: belongs to the task recommend, not to tensor"),
        ({"program": None, "signature": None}, "program: the task recommend runs a torch.export program"),
        (
            {"signature": tiny.ITEMS_SIGNATURE},
            "recommendation: users is needed where the input is user, and only there",
        ),
        ({"recommendation": {"items": "items.txt"}}, "recommendation: users is needed where the input is user"),
        ({"recommendation": {"items": "ids.txt", "users": "users.txt"}}, "files: ids.txt of recommendation is missing"),
        ({"recommendation": {"items": "../items.txt", "users": "users.txt"}}, "is no file of the folder"),
        ({"signature": tiny.USER_SIGNATURE | {"batch": None}}, "signature: a recommender needs batch"),
        (
            {"signature": tiny.USER_SIGNATURE | {"inputs": [tensor("user", "int32", "batch")]}},
            "signature: a recommender has one input: user, int64",
        ),
        (
            {"signature": tiny.USER_SIGNATURE | {"outputs": [tensor("scores", "float32", "batch", "any")]}},
            "signature: a recommender has one output: scores, float32",
        ),
        (
            {
                "signature": tiny.ITEMS_SIGNATURE,
                "recommendation": {"items": "items.txt", "seen": "seen.safetensors"},
            },
            "recommendation: seen says what users have had, and this program knows no users",
        ),
    ],
)
def test_a_wrong_description_is_told_what_is_wrong(by_user: Path, changes: dict[str, Any], words: str) -> None:
    described = _described(by_user)
    with pytest.raises(ValidationError, match=words):
        PackageDescription.model_validate(described | changes)
