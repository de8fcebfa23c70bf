"""s3:// against a real S3 server, over a way that fails: what arrives, and what is said when it does not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sources import s3_server as s3
from tests.sources.conftest import WEIGHTS
from tests.sources.faulty_proxy import Faults, in_front_of
from tests.sources.test_hub import content, failure

from modelyard_serving.contract import CacheConfig, FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources import bucket
from modelyard_serving.sources.bucket import Bucket
from modelyard_serving.sources.fetch import fetch

Bring = Callable[..., Path]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    with s3.s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def prefix(server: s3.S3Server, files: dict[str, bytes], tmp_path: Path) -> str:
    """Where the model is in the bucket."""
    server.put(s3.PRIVATE, f"{tmp_path.name}/tiny", files | {"pytorch_model.bin": b"pickle"})
    return f"{tmp_path.name}/tiny"


@pytest.fixture
def way(server: s3.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    with in_front_of(server.port) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faults.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET)
        yield faults


@pytest.fixture
def bring(brought: Bring, way: Faults, prefix: str) -> Bring:
    """Brings the model, or another one."""

    def bring(uri: str = f"s3://{s3.PRIVATE}/{prefix}", **settings: Any) -> Path:
        return brought(uri, origin=Bucket(uri), **settings)

    return bring


def test_a_folder_of_a_bucket_arrives_without_pickles_and_with_a_record(
    bring: Bring, files: dict[str, bytes], prefix: str, way: Faults, told: list[dict[str, Any]]
) -> None:
    folder = bring()
    assert content(folder) == files
    record = json.loads((folder / ".modelyard-source.json").read_text())
    assert record["uri"] == f"s3://{s3.PRIVATE}/{prefix}"
    assert record["version"] == told[0]["version"]
    begun = len(way.begun_at)
    assert bring() == folder
    assert len(way.begun_at) == begun, "what is there is not brought again"


def test_a_neighbour_with_a_longer_name_is_none_of_it(bring: Bring, server: s3.S3Server, prefix: str) -> None:
    server.put(s3.PRIVATE, f"{prefix}-v2", {"other.json": b"{}"})
    assert not (bring() / "other.json").exists()


def test_a_large_object_that_came_in_parts_arrives(bring: Bring, server: s3.S3Server, prefix: str) -> None:
    data = bytes(range(256)) * 6 * 4096
    server.put(s3.PRIVATE, prefix, {WEIGHTS: data}, part_bytes=5 * 2**20)
    assert (bring() / WEIGHTS).read_bytes() == data


def test_the_version_that_was_told_can_be_asked_for(
    bring: Bring, server: s3.S3Server, prefix: str, told: list[dict[str, Any]]
) -> None:
    folder = bring()
    uri = f"s3://{s3.PRIVATE}/{prefix}"
    version = told[0]["version"]
    assert content(bring(f"{uri}@{version}")) == content(folder)
    server.put(s3.PRIVATE, prefix, {"README.md": b"no part of the model"})
    assert bring() == folder
    server.put(s3.PRIVATE, prefix, {"config.json": b"{} "})
    changed = failure(bring, f"{uri}@{version}")
    assert changed.reason is FailureReason.MODEL_NOT_FOUND
    assert f"put back what {version} was" in changed.message
    assert bring() != folder


def test_an_object_that_is_replaced_on_the_way_is_not_mixed_in(
    bring: Bring, server: s3.S3Server, prefix: str, way: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Bucket.listing

    def and_then_replaced(self: Bucket) -> Any:
        found = listing(self)
        server.put(s3.PRIVATE, prefix, {WEIGHTS: bytes(2**20)})
        return found

    monkeypatch.setattr(Bucket, "listing", and_then_replaced)
    replaced = failure(bring)
    assert replaced.reason is FailureReason.DOWNLOAD_CORRUPT
    assert f"{WEIGHTS} was replaced while the model was downloaded" in replaced.message


def test_a_store_that_heeds_no_condition_mixes_nothing_in_either(
    bring: Bring, server: s3.S3Server, files: dict[str, bytes], way: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # or the condition would be signed
        monkeypatch.delenv(name)
    server.put(s3.PUBLIC, "moving", files)
    way.drops = {"if-match"}
    listing = Bucket.listing

    def and_then_replaced(self: Bucket) -> Any:
        found = listing(self)
        server.put(s3.PUBLIC, "moving", {WEIGHTS: bytes(len(files[WEIGHTS]))})
        return found

    monkeypatch.setattr(Bucket, "listing", and_then_replaced)
    replaced = failure(bring, f"s3://{s3.PUBLIC}/moving")
    assert replaced.reason is FailureReason.DOWNLOAD_CORRUPT
    assert f"{WEIGHTS} was replaced while" in replaced.message


def test_what_is_cut_in_the_middle_is_resumed(bring: Bring, files: dict[str, bytes], way: Faults) -> None:
    way.cuts = {WEIGHTS: 1}
    assert content(bring()) == files
    first, second = way.begun(WEIGHTS)
    assert first == 0
    assert len(files[WEIGHTS]) // 4 < second <= len(files[WEIGHTS]) // 2


def test_what_stays_cut_is_told_and_kept(bring: Bring, files: dict[str, bytes], way: Faults) -> None:
    way.cuts = {WEIGHTS: 3}
    stopped = failure(bring)
    assert stopped.reason is FailureReason.SOURCE_UNREACHABLE
    assert f"of {len(files[WEIGHTS])} bytes" in stopped.message
    begun = len(way.begun_at)
    assert content(bring()) == files
    assert [name for name, _ in way.begun_at[begun:]] == [WEIGHTS]
    assert way.begun(WEIGHTS)[-1] > 0


def test_a_passing_failure_is_waited_out(bring: Bring, files: dict[str, bytes], way: Faults) -> None:
    way.refusals = [503, 429]
    assert content(bring()) == files


def test_a_wrong_checksum_is_tried_once_more_and_told(bring: Bring, way: Faults) -> None:
    way.wrong = {WEIGHTS}
    damaged = failure(bring)
    assert damaged.reason is FailureReason.DOWNLOAD_CORRUPT
    assert f"{WEIGHTS} came twice with other bytes than its origin's checksum says (md5:" in damaged.message
    assert way.begun(WEIGHTS) == [0, 0]


def test_an_object_that_is_encrypted_with_a_key_of_the_user_has_no_checksum(
    bring: Bring, files: dict[str, bytes], server: s3.S3Server, prefix: str, way: Faults
) -> None:
    server.call_it(s3.PRIVATE, f"{prefix}/{WEIGHTS}", "0" * 32)
    assert failure(bring).reason is FailureReason.DOWNLOAD_CORRUPT
    way.headers = {"x-amz-server-side-encryption": "aws:kms"}
    assert content(bring()) == files


def test_what_is_open_to_all_needs_no_credentials(
    bring: Bring, files: dict[str, bytes], server: s3.S3Server, way: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    server.put(s3.PUBLIC, "tiny", files)
    assert content(bring(f"s3://{s3.PUBLIC}/tiny")) == files
    assert not any("Authorization" in headers for _, _, headers in way.requests)
    denied = failure(bring)
    assert denied.reason is FailureReason.SOURCE_DENIED
    assert denied.message.endswith("; there are none")


@pytest.mark.parametrize(
    ("uri", "refusals", "reason", "words"),
    [
        ("s3://no-such-bucket/tiny", [], "ModelNotFound", "there is no bucket no-such-bucket at http://127.0.0.1:"),
        (f"s3://{s3.PRIVATE}/nothing/here", [], "ModelNotFound", "has the prefix nothing/here/ at http://127.0.0.1:"),
        (f"s3://{s3.PRIVATE}/any", [403], "SourceDenied", "access is denied at http://127.0.0.1:"),
        (f"s3://{s3.PRIVATE}/any", [403], "SourceDenied", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (on a cluster"),
        (f"s3://{s3.PRIVATE}/any", [301], "SourceDenied", "is in another region than is asked"),
        (f"s3://{s3.PRIVATE}/any", [500] * 3, "SourceUnreachable", "cannot be reached in 3 tries"),
    ],
)
def test_each_failure_says_what_to_do(
    bring: Bring, way: Faults, uri: str, refusals: list[int], reason: str, words: str
) -> None:
    way.refusals = refusals
    told = failure(bring, uri)
    assert told.reason == reason
    assert told.message.startswith(f"{uri}: ")
    assert words in told.message


@pytest.mark.parametrize(
    ("name", "value", "reason", "words"),
    [
        ("AWS_ACCESS_KEY_ID", "", "SourceDenied", "only one is set; set both, or neither"),
        ("AWS_SECRET_ACCESS_KEY", "", "SourceDenied", "only one is set; set both, or neither"),
        ("AWS_ENDPOINT_URL_S3", "store:9000", "SourceUnreachable", "begins with neither https:// nor http://"),
        ("AWS_ENDPOINT_URL_S3", "http://", "SourceUnreachable", "has no host"),
        ("AWS_ENDPOINT_URL_S3", "http://[bad", "SourceUnreachable", "has no host"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "perhaps", "SourceUnreachable", "variables AWS_* has a value"),
    ],
)
def test_variables_that_cannot_work_are_told(
    bring: Bring, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    told = failure(bring)
    assert told.reason == reason
    assert words in told.message


def test_no_key_is_ever_told(bring: Bring, monkeypatch: pytest.MonkeyPatch, told: list[dict[str, Any]]) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    refused = failure(bring)
    assert "(403 SignatureDoesNotMatch)" in refused.message
    told += [{"message": refused.message, "of": repr(refused)}]
    assert not any(secret in str(told) for secret in (f"{s3.KEY} ", "another-secret", "X-Amz", "AWS4"))


def test_a_store_that_is_silent_is_told(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    silent = failure(bring)
    assert silent.reason is FailureReason.SOURCE_UNREACHABLE
    assert "no answer at http://127.0.0.1:1" in silent.message


def test_a_bucket_full_of_other_things_is_refused(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "MOST_OBJECTS", 3)
    full = failure(bring)
    assert full.reason is FailureReason.MODEL_INVALID
    assert "name the folder of one model" in full.message


def test_the_process_downloads_from_a_bucket(way: Faults, prefix: str, files: dict[str, bytes], tmp_path: Path) -> None:
    cache = CacheConfig(path=str(tmp_path / "cache"))
    copy = fetch(f"s3://{s3.PRIVATE}/{prefix}", cache, lambda event, **_: None)
    assert content(copy.path) == files
    copy.hold.close()
    with pytest.raises(StartFailure, match="there is no bucket"):
        fetch("s3://no-such-bucket/tiny", cache, lambda event, **_: None)
