"""What the store keeps, what it forgets, and when it is put right by complete LISTs."""

import asyncio
from typing import Any

import pytest
from tests.unit.fakes.kube import FakeKube
from tests.unit.fakes.virtual_time import run_virtually

from modelyard_operator.kube import store as store_module
from modelyard_operator.kube.client import CONTROLLER_REVISION, MODEL_SERVICE, Kind, Manifest
from modelyard_operator.kube.errors import Unavailable
from modelyard_operator.kube.store import Store, Stored
from modelyard_operator.kube.stored import Completion, Seen, StoredKube


def service(name: str, version: int, uid: str = "", *, labels: dict[str, str] | None = None, **rest: Any) -> Manifest:
    metadata = {"name": name, "namespace": "team", "uid": uid or name, "resourceVersion": str(version)}
    return {
        "apiVersion": MODEL_SERVICE.api_version,
        "kind": MODEL_SERVICE.kind,
        "metadata": metadata | {"labels": labels or {}},
        **rest,
    }


def written(name: str, **spec: Any) -> Manifest:
    return {
        "apiVersion": MODEL_SERVICE.api_version,
        "kind": MODEL_SERVICE.kind,
        "metadata": {"name": name, "namespace": "team"},
        "spec": spec,
    }


@pytest.fixture
def store() -> Store:
    return Store({MODEL_SERVICE: Stored(labels=("tier",))})


def version(store: Store, name: str) -> str | None:
    found = store.find(MODEL_SERVICE, name, "team")
    return str(found["metadata"]["resourceVersion"]) if found is not None else None


def test_the_newest_version_stays_in_whatever_order_they_come(store: Store) -> None:
    for number in (2, 3, 1):
        store.note(MODEL_SERVICE, service("a", number))
    assert version(store, "a") == "3"


def test_what_comes_late_brings_nothing_back_and_takes_no_successor(store: Store) -> None:
    store.note(MODEL_SERVICE, service("a", 3, "first"))
    store.note_deleted(MODEL_SERVICE, service("a", 5, "first"))
    store.note(MODEL_SERVICE, service("a", 4, "first"))
    assert version(store, "a") is None
    store.note(MODEL_SERVICE, service("a", 6, "second"))
    store.note_deleted(MODEL_SERVICE, service("a", 5, "first"))
    assert version(store, "a") == "6"


def test_an_index_follows_the_labels(store: Store) -> None:
    store._shelves[MODEL_SERVICE].complete = True
    store.note(MODEL_SERVICE, service("a", 1, labels={"tier": "gold"}))
    store.note(MODEL_SERVICE, service("b", 2, labels={"tier": "gold"}))
    store.note(MODEL_SERVICE, service("a", 3, labels={"tier": "silver"}))
    names = {
        tier: [each["metadata"]["name"] for each in store.select(MODEL_SERVICE, None, f"tier={tier}") or ()]
        for tier in ("gold", "silver")
    }
    assert names == {"gold": ["b"], "silver": ["a"]}


def test_what_loses_the_watched_labels_goes() -> None:
    store = Store({MODEL_SERVICE: Stored(selector="managed=true")})
    store.note(MODEL_SERVICE, service("a", 1, labels={"managed": "true"}))
    store.note(MODEL_SERVICE, service("a", 2))
    assert version(store, "a") is None


def test_changes_are_counted_and_old_news_are_none(store: Store) -> None:
    before = store.changes(MODEL_SERVICE)
    store.note(MODEL_SERVICE, service("a", 2))
    after = store.changes(MODEL_SERVICE)
    assert after != before
    store.note(MODEL_SERVICE, service("a", 1))
    store.note(MODEL_SERVICE, service("a", 2))
    assert store.changes(MODEL_SERVICE) == after
    store.note_deleted(MODEL_SERVICE, service("a", 3))
    assert store.changes(MODEL_SERVICE) != after


def test_a_change_is_one_of_the_label_that_an_object_had_and_of_the_one_that_it_has(store: Store) -> None:
    def changed() -> dict[str, int]:
        return {tier: store.changed(MODEL_SERVICE, "tier", tier) for tier in ("a", "b", "c")}

    store.note(MODEL_SERVICE, service("one", 1, labels={"tier": "a"}))
    store.note(MODEL_SERVICE, service("two", 2, labels={"tier": "a"}))
    store.note(MODEL_SERVICE, service("three", 3, labels={"tier": "c"}))
    first = changed()
    store.note(MODEL_SERVICE, service("one", 4, labels={"tier": "b"}))
    moved = changed()
    assert moved["a"] != first["a"]
    assert moved["b"] != first["b"]
    assert moved["c"] == first["c"]
    store.note_deleted(MODEL_SERVICE, service("three", 5, labels={"tier": "c"}))
    assert changed()["c"] != moved["c"]
    store.note(MODEL_SERVICE, service("three", 6, uid="again", labels={"tier": "c"}))
    assert changed()["c"] not in (0, moved["c"])
    assert changed() | {"c": 0} == moved | {"c": 0}


async def test_what_the_operator_wrote_is_its_own_until_somebody_else_writes(store: Store) -> None:
    api = FakeKube()
    kube = StoredKube(api, store)
    mine = await kube.apply(written("a", x=1))
    assert store.is_own(mine)
    theirs = api.put({**mine, "spec": {"x": 2}})
    assert not store.is_own(theirs)
    assert store.is_own(await kube.apply(written("a", x=3)))
    await kube.get(MODEL_SERVICE, "a", namespace="team")
    assert not store.is_own(theirs)
    assert not store.is_own(api.put(written("b")))


async def test_own_writes_are_remembered_within_bounds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_REMEMBERED", 2)
    for number in range(3):
        store.note_own(MODEL_SERVICE, service(f"s{number}", number))
    assert [store.is_own(service(f"s{number}", number)) for number in range(3)] == [False, True, True]


async def test_a_complete_list_takes_what_is_gone_and_spares_what_came_meanwhile(store: Store) -> None:
    api = FakeKube()
    kept = api.put(written("kept"))
    store.note(MODEL_SERVICE, kept)
    store.note(MODEL_SERVICE, service("gone", 1))
    store.note(MODEL_SERVICE, service("renewed", 1, "first"))

    class Slow(FakeKube):
        async def list(self, kind: Kind, *, namespace: str | None = None, labels: str | None = None) -> list[Manifest]:
            listed = list(await api.list(kind))
            store.note(MODEL_SERVICE, service("new", 9000))
            store.note(MODEL_SERVICE, service("renewed", 9001, "second"))
            return listed

    await store.complete(MODEL_SERVICE, Slow())
    names = {"kept", "gone", "new", "renewed"}
    assert {name for name in names if version(store, name) is not None} == {"kept", "new", "renewed"}


async def test_nothing_is_read_from_a_store_that_is_not_complete(store: Store) -> None:
    api = FakeKube()
    api.put(written("a"))
    seen = Seen(api, store)
    assert len(await seen.list(MODEL_SERVICE)) == 1
    await store.complete(MODEL_SERVICE, api)
    asked = len(api.requests)
    assert len(await seen.list(MODEL_SERVICE)) == 1
    assert await seen.get(MODEL_SERVICE, "a", namespace="team") is not None
    assert len(api.requests) == asked
    assert await seen.get(MODEL_SERVICE, "absent", namespace="team") is None
    assert len(api.requests) == asked + 1, "that an object does not exist only the API server says"


def lists(api: FakeKube) -> int:
    return sum(request.verb == "list" and request.kind == MODEL_SERVICE.kind for request in api.requests)


def test_complete_lists_are_taken_at_the_start_when_asked_for_and_from_time_to_time() -> None:
    async def main() -> None:
        api, store = FakeKube(), Store({MODEL_SERVICE: Stored()})
        completion = Completion(api, store, every_s=300)
        task = asyncio.create_task(completion.run())
        await completion.started.wait()
        assert (lists(api), store.is_complete(MODEL_SERVICE)) == (1, True)
        store.note(MODEL_SERVICE, service("gone", 9000))
        completion.ask(MODEL_SERVICE)
        await asyncio.sleep(1)
        assert (lists(api), store.find(MODEL_SERVICE, "gone", "team")) == (2, None)
        await asyncio.sleep(298)
        assert lists(api) == 2
        await asyncio.sleep(2)
        assert lists(api) == 3
        task.cancel()

    run_virtually(main())


def test_a_list_that_fails_is_tried_again_soon_and_holds_nobody_up() -> None:
    async def main() -> None:
        api, store = (
            FakeKube(absent=[CONTROLLER_REVISION]),
            Store({MODEL_SERVICE: Stored(), CONTROLLER_REVISION: Stored()}),
        )
        api.fail("list", MODEL_SERVICE, Unavailable("down"))
        completion = Completion(api, store, every_s=300)
        task = asyncio.create_task(completion.run())
        await completion.started.wait()
        assert not store.is_complete(MODEL_SERVICE)
        await asyncio.sleep(6)
        assert store.is_complete(MODEL_SERVICE)
        assert not store.is_complete(CONTROLLER_REVISION)
        task.cancel()

    run_virtually(main())
