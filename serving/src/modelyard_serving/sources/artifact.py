"""An artifact of an OCI registry: a manifest whose layers are files with names, as `oras push` makes them.

Protocol: OCI Distribution Specification 1.1; tokens as the Distribution project describes them. A layer is named by its
SHA-256, and so is the manifest: what arrives is what was pushed.
"""

import hashlib
import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.origin import Listing, RemoteFile, Transient
from modelyard_serving.sources.ranges import bytes_from
from modelyard_serving.sources.registry_login import DOCKER_AUTH, Login, WrongAuthConfig, login_for

PLAIN_HTTP = "MODELYARD_PLAIN_HTTP_REGISTRIES"
"""Registries (`host:port`, with commas between them) that are spoken to without TLS, beside those on loopback."""

TIMEOUT_S = 30.0
_MOST_MANIFEST_BYTES = 4 * 2**20
_TITLE = "org.opencontainers.image.title"
_UNPACK = "io.deis.oras.content.unpack"
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_CHALLENGED = re.compile(r'(\w+)="([^"]*)"')


class _Layer(BaseModel):
    model_config = ConfigDict(frozen=True)  # what is not needed is ignored: others may extend it

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0)
    annotations: dict[str, str] = Field(default_factory=dict)


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    layers: tuple[_Layer, ...]


class _Token(BaseModel):
    token: str = ""
    access_token: str = ""


class Artifact:
    """`oci://<registry>/<repository>:<tag>` or `oci://<registry>/<repository>@sha256:<digits>`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._registry, _, place = uri.removeprefix("oci://").partition("/")
        repository, _, digest = place.partition("@")
        tagged, _, tag = repository.rpartition(":")
        self._repository, self._reference = (repository, digest) if digest else (tagged, tag)
        plain = [each.strip() for each in os.environ.get(PLAIN_HTTP, "").split(",")]
        self._plain = self._registry in plain or _is_loopback(self._registry)
        self._url = f"{'http' if self._plain else 'https'}://{self._registry}/v2/{self._repository}/"
        self._authorization: dict[str, str] = {}

    def listing(self) -> Listing:
        """See `Origin`; the version is the digest of the manifest."""
        with self._asked(f"manifests/{self._reference}", {"Accept": ", ".join((*_MANIFESTS, *_INDEXES))}) as response:
            body = b""
            for block in response.iter_bytes():
                body += block
                if len(body) > _MOST_MANIFEST_BYTES:
                    raise self._invalid(f"the manifest is larger than {_MOST_MANIFEST_BYTES} bytes")
        version = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if self._reference.startswith("sha256:") and version != self._reference:
            raise StartFailure(
                FailureReason.DOWNLOAD_CORRUPT,
                f"{self._uri}: what the registry sends has the digest {version}; look for a proxy that changes it",
            )
        if response.headers.get("Content-Type", "").partition(";")[0] in _INDEXES:
            raise self._invalid("it is an index of several manifests; name one of them by its digest")
        try:
            files = tuple(self._file(layer) for layer in _Manifest.model_validate_json(body).layers)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise self._invalid(f"not the manifest of an artifact: {where}: {first['msg']}") from None
        if len({file.name for file in files}) < len(files):
            raise self._invalid("two of its layers have the same name; push each file once")
        return Listing(version, files)

    def read(self, file: RemoteFile, version: str | None, offset: int) -> Iterator[bytes]:
        """See `Origin`."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        with self._asked(f"blobs/{file.digest}", headers) as response:
            yield from bytes_from(response, offset)

    def checksum(self, file: RemoteFile) -> str | None:
        """See `Origin`."""
        return file.digest

    def _file(self, layer: _Layer) -> RemoteFile:
        name = layer.annotations.get(_TITLE)
        if name is None:
            raise self._invalid(
                "it has layers without names, as images of containers do. Push the model's files themselves: "
                "oras push REFERENCE config.json model.safetensors ..."
            )
        if layer.annotations.get(_UNPACK) == "true":
            raise self._invalid(
                f"{name} is a folder that was packed into an archive, and archives are not unpacked. Push the files by "
                "name: cd FOLDER && oras push REFERENCE *"
            )
        return RemoteFile(name, layer.size, layer.digest)

    @contextmanager
    def _asked(self, path: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
        """An answer whose body is still to come, asked for with whatever the registry wants to see."""
        try:
            with self._sent(path, headers) as response:
                if response.status_code != HTTPStatus.UNAUTHORIZED:
                    yield self._granted(response, path)
                    return
            # The first time it says what it wants to see; later a token may have run out.
            self._authorization = self._answer_to(response.headers.get("WWW-Authenticate", ""))
            with self._sent(path, headers) as response:
                yield self._granted(response, path)
        except httpx2.HTTPError as error:
            raise Transient(f"{self._registry}: {str(error) or type(error).__name__}") from error

    def _sent(self, path: str, headers: dict[str, str]) -> AbstractContextManager[httpx2.Response]:
        # Blobs may be kept elsewhere; httpx takes no credentials along to another host.
        return httpx2.stream(
            "GET", f"{self._url}{path}", headers=headers | self._authorization, follow_redirects=True, timeout=TIMEOUT_S
        )

    def _granted(self, response: httpx2.Response, path: str) -> httpx2.Response:
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise self._refused(response.status_code, path)
        return response

    def _answer_to(self, challenge: str) -> dict[str, str]:
        """The header that a challenge asks for: a name and a password, or a token that they are exchanged for."""
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_CHALLENGED.findall(rest))
        login = self._login()
        if scheme.lower() == "basic" and login is not None:
            return {"Authorization": login.header}
        if scheme.lower() != "bearer" or "realm" not in asked:
            raise self._refused(HTTPStatus.UNAUTHORIZED, "")
        realm = urlsplit(asked["realm"])
        if realm.scheme != "https" and not (self._plain and realm.scheme == "http"):
            raise self._denied(f"it sends for a token to {asked['realm']}, where credentials could be read on the way")
        wanted = {name: asked[name] for name in ("service", "scope") if name in asked}
        shown = {"Authorization": login.header} if login else {}
        response = httpx2.get(asked["realm"], params=wanted, headers=shown, timeout=TIMEOUT_S)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise self._refused(response.status_code, "")
        try:
            told = _Token.model_validate_json(response.content)
        except ValidationError:
            told = _Token()
        if not (told.token or told.access_token):
            raise self._denied(f"{realm.netloc} answers without a token")
        return {"Authorization": f"Bearer {told.token or told.access_token}"}

    def _login(self) -> Login | None:
        try:
            return login_for(self._registry)
        except WrongAuthConfig as error:
            raise self._denied(str(error)) from error

    def _refused(self, status: int, path: str) -> Exception:
        """What a status means to the user."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            return Transient(f"{self._registry} answers {status}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            whose = "the account there may not read it" if self._login() else "there is no account for this registry"
            return self._denied(
                f"access is denied by {self._registry} ({status}). Credentials are read from {DOCKER_AUTH} (on a "
                "cluster a variable of the ServingCluster's spec.runtime.env, with secretKeyRef to the key "
                f".dockerconfigjson); {whose}. Some registries answer so too where there is no such repository"
            )
        what = path.partition("/")[2] or "token"
        return StartFailure(
            FailureReason.MODEL_NOT_FOUND,
            f"{self._uri}: {self._registry} has no repository {self._repository} with {what} in it ({status})",
        )

    def _denied(self, message: str) -> StartFailure:
        return StartFailure(FailureReason.SOURCE_DENIED, f"{self._uri}: {message}")

    def _invalid(self, message: str) -> StartFailure:
        return StartFailure(FailureReason.MODEL_INVALID, f"{self._uri}: {message}")


def _is_loopback(registry: str) -> bool:
    host = registry.rpartition(":")[0] or registry
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
