"""The cache: one download for all, room by least use, and nothing that is in use goes."""

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.sources.conftest import URI, Brought
from tests.sources.hub_server import Hub

from modelyard_serving.contract import CacheConfig, FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.cache import space_of
from modelyard_serving.sources.fetch import Copy, fetch
from modelyard_serving.sources.order import Download
from modelyard_serving.sources.origin import files_to_take
from modelyard_serving.sources.transfer import Transfer

A, B, C = "hf://acme/tiny@main", "hf://acme/tiny@v1", "hf://acme/tiny@v2"


@pytest.fixture
def each_its_own(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> int:
    """Each source is another model for the cache; what one takes there."""
    hub.revisions = ("main", "v1", "v2")
    monkeypatch.setattr("modelyard_serving.sources.order.key_of", lambda uri, *_: uri.rpartition("@")[2])
    files = [hub.sibling(name) for name in hub.files]
    return space_of(files_to_take(URI, [_file(each) for each in files]))


def _file(sibling: dict[str, Any]) -> Any:
    from modelyard_serving.sources.origin import RemoteFile

    return RemoteFile(sibling["rfilename"], sibling["size"], None)


def models(root: Path) -> set[str]:
    return {path.name for path in (root / "models").iterdir()}


def used_at(root: Path, key: str, time: float) -> None:
    os.utime(root / "locks" / f"{key}.use", (time, time))
    os.utime(root / "models" / key, (time, time))


def test_a_model_above_the_limit_is_refused_before_anything_comes(
    hub: Hub, brought: Brought, each_its_own: int
) -> None:
    with pytest.raises(StartFailure, match=r"the model takes .*Ki, and the cache may hold 100.0Ki. Raise spec.modelC"):
        brought(limit_bytes=100 * 1024)
    assert hub.begun_at == []


def test_what_was_not_used_for_longest_goes(tmp_path: Path, brought: Brought, each_its_own: int) -> None:
    limit, root = 2 * each_its_own, tmp_path / "cache"
    for uri in (A, B):
        brought(uri, keep=False, limit_bytes=limit)
    for key, time in (("main", 2.0), ("v1", 1.0)):
        (root / "locks" / f"{key}.use").touch()
        used_at(root, key, time)
    brought(C, limit_bytes=limit)
    assert models(root) == {"main", "v2"}


def test_what_is_in_use_stays(tmp_path: Path, brought: Brought, each_its_own: int) -> None:
    limit, root = 2 * each_its_own, tmp_path / "cache"
    brought(A, keep=True, limit_bytes=limit)
    brought(B, limit_bytes=limit)
    used_at(root, "main", 1.0)
    brought(C, keep=True, limit_bytes=limit)
    assert models(root) == {"main", "v2"}
    with pytest.raises(StartFailure, match=r"in use are hf://acme/tiny@main \(.*Ki\), hf://acme/tiny@v2") as caught:
        brought(B, limit_bytes=limit)
    assert caught.value.reason is FailureReason.CACHE_FULL
    assert models(root) == {"main", "v2"}


def test_what_another_one_downloads_just_now_counts(
    tmp_path: Path, download: Callable[..., Download], brought: Brought, each_its_own: int
) -> None:
    other = download(A)
    with other.cache.locked("main", lambda _: None):
        other.cache.make_room("main", files_to_take(A, other.origin.listing().files))
        with pytest.raises(StartFailure, match="in use are hf://acme/tiny@main"):
            brought(B, limit_bytes=each_its_own + 1)
    brought(B, limit_bytes=each_its_own + 1)
    assert not (tmp_path / "cache" / "partial" / "main").exists(), "nobody goes on with it"


def test_a_disk_without_room_is_told_with_numbers(brought: Brought, each_its_own: int) -> None:
    with pytest.raises(StartFailure, match=r"the disk is the limit, 100.0Ki are free on the disk, and in use are noth"):
        brought(free=lambda _: 100 * 1024)


def test_a_disk_that_fills_up_on_the_way_is_told(brought: Brought, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Transfer, "_append", full)
    with pytest.raises(StartFailure, match=r"the disk of .* is full") as caught:
        brought()
    assert caught.value.reason is FailureReason.CACHE_FULL


def test_a_copy_that_lost_a_file_is_brought_again(hub: Hub, brought: Brought) -> None:
    folder = brought()
    (folder / "model.safetensors").write_bytes(b"short")
    assert brought() == folder
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_nothing_lands_before_it_is_whole(tmp_path: Path, hub: Hub, brought: Brought) -> None:
    hub.pause = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(brought)
        while not hub.begun_at:
            pass
        assert models(tmp_path / "cache") == set()
        hub.pause.set()
        assert task.result().is_dir()


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, download: Callable[..., Download]) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StartFailure, match="cannot be written by user") as caught:
        download()
    assert caught.value.reason is FailureReason.CACHE_NOT_WRITABLE


def test_processes_at_once_download_once_and_each_holds_it(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a pod: the variables keep whoever loads offline, and the download works."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.pause = threading.Event()
    cache = CacheConfig(path=str(tmp_path / "cache"))
    told: list[str] = []

    def tell(event: str, **_: Any) -> None:
        told.append(event)
        if event == "download-waits":
            assert hub.pause is not None
            hub.pause.set()

    def fetched(_: int) -> Copy:
        return fetch(URI, cache, tell)

    with ThreadPoolExecutor(3) as pool:
        copies = list(pool.map(fetched, range(3)))
    assert len({copy.path for copy in copies}) == 1
    names = [name for name, _ in hub.begun_at]
    assert sorted(names) == sorted(set(names)), "each file once"
    assert told.count("download") >= 1
    assert told.count("download-waits") >= 1
    for copy in copies:
        copy.hold.close()


def test_a_failure_comes_through_from_the_process(tmp_path: Path, hub: Hub) -> None:
    hub.refusals = [403]
    with pytest.raises(StartFailure, match="access is denied") as caught:
        fetch(URI, CacheConfig(path=str(tmp_path / "cache")), lambda event, **_: None)
    assert caught.value.reason is FailureReason.SOURCE_DENIED
