"""oci:// against real registries, over a way that fails: what arrives, and what is said when it does not."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sources import registry_server as registry
from tests.sources.conftest import WEIGHTS
from tests.sources.faulty_proxy import Faults, in_front_of
from tests.sources.test_hub import content, failure

from modelyard_serving.contract import CacheConfig, FailureReason
from modelyard_serving.sources.artifact import PLAIN_HTTP, Artifact
from modelyard_serving.sources.fetch import fetch

Bring = Callable[..., Path]
NOWHERE = "oci://registry.example.com/team/tiny:v1"


@pytest.fixture(scope="session")
def tokens() -> Iterator[registry.TokenServer]:
    with registry.token_server() as tokens:
        yield tokens


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tokens: registry.TokenServer) -> Iterator[registry.Registries]:
    with registry.registries(tmp_path_factory.mktemp("registry"), tokens) as server:
        yield server


@pytest.fixture(scope="session")
def pushed(server: registry.Registries, files: dict[str, bytes]) -> str:
    """The digest of team/tiny:v1."""
    return server.push("team/tiny", "v1", files | {"pytorch_model.bin": b"pickle"})


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.fixture
def way(server: registry.Registries, pushed: str) -> Iterator[Faults]:
    with in_front_of(server.open) as faults:
        yield faults


@pytest.fixture
def bring(brought: Bring) -> Bring:
    def bring(uri: str, **settings: Any) -> Path:
        return brought(uri, origin=Artifact(uri), **settings)

    return bring


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def log_in(host: str, password: str = registry.PASSWORD) -> None:
        auth = base64.b64encode(f"{registry.USER}:{password}".encode()).decode()
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {f"https://{host}/v1/": {"auth": auth}}}))

    return log_in


def uri_of(way: Faults, rest: str = "team/tiny:v1") -> str:
    return f"oci://{way.url.removeprefix('http://')}/{rest}"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_an_artifact_arrives_without_pickles_and_with_a_record(
    bring: Bring, way: Faults, files: dict[str, bytes], pushed: str
) -> None:
    folder = bring(uri_of(way))
    assert content(folder) == files
    assert json.loads((folder / ".modelyard-source.json").read_text())["version"] == pushed
    begun = len(way.begun_at)
    assert bring(uri_of(way)) == folder
    assert [name for name, _ in way.begun_at[begun:]] == ["v1"], "only the manifest is asked for again"


def test_a_digest_names_the_same_for_ever(
    bring: Bring, way: Faults, files: dict[str, bytes], server: registry.Registries
) -> None:
    old = server.push("team/moving", "latest", files)
    server.push("team/moving", "latest", files | {"config.json": b"{}"})
    assert content(bring(uri_of(way, f"team/moving@{old}"))) == files
    assert (bring(uri_of(way, "team/moving:latest")) / "config.json").read_bytes() == b"{}"


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(bring: Bring, way: Faults, pushed: str) -> None:
    way.wrong = {pushed}
    changed = failure(bring, uri_of(way, f"team/tiny@{pushed}"))
    assert changed.reason is FailureReason.DOWNLOAD_CORRUPT
    assert "what the registry sends has the digest sha256:" in changed.message


def test_what_is_cut_in_the_middle_is_resumed(bring: Bring, way: Faults, files: dict[str, bytes]) -> None:
    blob = digest(files[WEIGHTS])
    way.cuts = {blob: 2}
    assert content(bring(uri_of(way))) == files
    size = len(files[WEIGHTS])
    assert way.begun(blob) == [0, size // 2, size // 2 + (size - size // 2) // 2]


def test_a_wrong_checksum_is_tried_once_more_and_told(bring: Bring, way: Faults, files: dict[str, bytes]) -> None:
    way.wrong = {digest(files[WEIGHTS])}
    damaged = failure(bring, uri_of(way))
    assert damaged.reason is FailureReason.DOWNLOAD_CORRUPT
    assert f"{WEIGHTS} came twice with other bytes" in damaged.message


def test_a_passing_failure_is_waited_out(bring: Bring, way: Faults, files: dict[str, bytes]) -> None:
    way.refusals = [503, 429]
    assert content(bring(uri_of(way))) == files


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_a_private_registry_wants_an_account(
    kind: str, server: registry.Registries, bring: Bring, files: dict[str, bytes], log_in: Callable[..., None]
) -> None:
    port = {"basic": server.basic, "token": server.token}[kind]
    server.push("team/private", "v1", files)
    with in_front_of(port) as way:
        host = way.url.removeprefix("http://")
        nobody = failure(bring, uri_of(way, "team/private:v1"))
        assert nobody.reason is FailureReason.SOURCE_DENIED
        assert "there is no account for this registry" in nobody.message
        log_in(host, "a-wrong-password")
        wrong = failure(bring, uri_of(way, "team/private:v1"))
        assert "the account there may not read it" in wrong.message
        assert "a-wrong-password" not in wrong.message
        log_in(host)
        assert content(bring(uri_of(way, "team/private:v1"))) == files


def test_a_token_that_has_run_out_is_asked_for_again(
    server: registry.Registries,
    tokens: registry.TokenServer,
    bring: Bring,
    files: dict[str, bytes],
    log_in: Callable[..., None],
) -> None:
    server.push("team/slow", "v1", files)
    with in_front_of(server.token) as way:
        log_in(way.url.removeprefix("http://"))
        given = tokens.given
        way.refusals_of = {digest(files[WEIGHTS]): [401]}
        assert content(bring(uri_of(way, "team/slow:v1"))) == files
        assert tokens.given - given == 2


def test_a_token_is_not_fetched_in_the_clear_for_a_registry_with_tls() -> None:
    artifact = Artifact(NOWHERE)
    with pytest.raises(Exception, match="where credentials could be read on the way") as caught:
        artifact._answer_to('Bearer realm="http://tokens.example.com/token",service="models"')
    assert getattr(caught.value, "reason", None) is FailureReason.SOURCE_DENIED


def test_plain_http_is_for_loopback_and_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Artifact(NOWHERE)._url.startswith("https://")
    assert Artifact("oci://127.0.0.1.example.com:5000/a/b:c")._url.startswith("https://")
    assert Artifact("oci://10.0.0.1:5000/a/b:c")._url.startswith("https://")
    assert Artifact("oci://127.0.0.1:5000/a/b:c")._url.startswith("http://")
    monkeypatch.setenv(PLAIN_HTTP, "other.example.com, registry.example.com")
    assert Artifact(NOWHERE)._url.startswith("http://")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no JSON", "DOCKER_AUTH_CONFIG is not the JSON of a .dockerconfigjson"),
        ('{"auths": {"HOST": {"auth": "bm8gY29sb24="}}}', "is not the base64 of a name, a colon and a password"),
        ('{"auths": {"HOST": {"auth": "!!bm86cGFzcw=="}}}', "is not the base64 of a name, a colon and a password"),
    ],
)
def test_credentials_that_cannot_be_read_are_told(
    text: str, words: str, server: registry.Registries, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_front_of(server.basic) as way:
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", text.replace("HOST", way.url.removeprefix("http://")))
        told = failure(bring, uri_of(way))
    assert told.reason is FailureReason.SOURCE_DENIED
    assert words in told.message


@pytest.mark.parametrize(
    ("rest", "refusals", "reason", "words"),
    [
        ("team/other:v1", [], "ModelNotFound", "has no repository team/other with v1 in it (404)"),
        ("team/tiny:v9", [], "ModelNotFound", "has no repository team/tiny with v9 in it (404)"),
        ("team/tiny:v1", [403], "SourceDenied", "there is no account for this registry"),
        ("team/tiny:v1", [502] * 3, "SourceUnreachable", "cannot be reached in 3 tries"),
    ],
)
def test_each_failure_says_what_to_do(
    bring: Bring, way: Faults, rest: str, refusals: list[int], reason: str, words: str
) -> None:
    way.refusals = refusals
    told = failure(bring, uri_of(way, rest))
    assert told.reason == reason
    assert told.message.startswith(f"{uri_of(way, rest)}: ")
    assert words in told.message


def test_what_are_not_files_is_refused(bring: Bring, way: Faults, server: registry.Registries) -> None:
    server.push("team/folder", "v1", {"model": b"tar"}, **{"io.deis.oras.content.unpack": "true"})
    assert "archives are not unpacked" in failure(bring, uri_of(way, "team/folder:v1")).message
    nameless = [server._blob("team/image", b"layer")]
    server.push_manifest("team/image", "v1", {"layers": nameless})
    assert "it has layers without names" in failure(bring, uri_of(way, "team/image:v1")).message
    twice = [each | {"annotations": {"org.opencontainers.image.title": "a.json"}} for each in nameless * 2]
    server.push_manifest("team/image", "v2", {"layers": twice})
    assert "two of its layers have the same name" in failure(bring, uri_of(way, "team/image:v2")).message
    index = {"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
    server.push_manifest("team/image", "v3", index)
    refused = failure(bring, uri_of(way, "team/image:v3"))
    assert refused.reason is FailureReason.MODEL_INVALID
    assert "it is an index of several manifests" in refused.message


def test_a_name_that_leads_elsewhere_is_refused(bring: Bring, way: Faults, server: registry.Registries) -> None:
    server.push("team/evil", "v1", {"../../evil.json": b"{}", WEIGHTS: b""})
    assert "name leads elsewhere: '../../evil.json'" in failure(bring, uri_of(way, "team/evil:v1")).message


def test_the_process_downloads_an_artifact(way: Faults, files: dict[str, bytes], tmp_path: Path) -> None:
    copy = fetch(uri_of(way), CacheConfig(path=str(tmp_path / "cache")), lambda event, **_: None)
    assert content(copy.path) == files
    copy.hold.close()
