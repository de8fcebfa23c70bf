"""A folder of a bucket, by obstore; endpoint, region and credentials come from the variables of the cloud's own tools.

A store tells an ETag for each object. It is the object's identity: each read asks for exactly that one (`If-Match`), so
that no two versions are mixed. Of an object that was uploaded in one piece it is the MD5 of its bytes too.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.origin import Listing, RemoteFile, Transient, files_to_take

if TYPE_CHECKING:  # they exist for type checkers alone
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig, S3Config

TIMEOUT_S = 30
"""Seconds of silence after which a request is given up and made again."""

MOST_OBJECTS = 10_000
"""Objects below a prefix; more are no model's folder."""

_ETAG = "etag:"
_BLOCK_BYTES = 2**18
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_CREDENTIALS = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
)
_WHERE = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (on a cluster variables of the ServingCluster's spec.runtime.env, "
    "with secretKeyRef)"
)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IncorrectEndpoint")
_REDIRECTED = "incorrectly configured region"
_MD5 = re.compile(r"[0-9a-f]{32}")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CAUSE = re.compile(r"HTTP error: ([a-z ]+)")


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class Bucket:
    """`s3://<bucket>/<prefix>[@<version>]`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        place, _, self._version = uri.removeprefix("s3://").partition("@")
        self._bucket, _, self._prefix = place.partition("/")
        self._endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
        self._anonymous = not any(all(os.environ.get(name) for name in names) for names in _CREDENTIALS)
        self._check_variables()
        settings: S3Config = {}
        if self._endpoint:
            settings["aws_endpoint_url_s3"] = self._endpoint
        if self._anonymous:  # Or the library would look for credentials of the node.
            settings["skip_signature"] = True
        again: RetryConfig = {"max_retries": 0}  # That is up to who asks.
        try:
            self._store = S3Store(
                self._bucket, config=settings, client_options=_client_options(self._endpoint), retry_config=again
            )
        except (BaseError, ValueError) as error:
            raise self._failure(
                FailureReason.SOURCE_UNREACHABLE,
                "one of the variables AWS_* has a value that cannot be used (a switch is true or false); look at each",
            ) from error

    def _check_variables(self) -> None:
        if self._endpoint and not self._endpoint.startswith(("https://", "http://")):
            raise self._failure(
                FailureReason.SOURCE_UNREACHABLE,
                f"the endpoint {self._endpoint} begins with neither https:// nor http://; put that before it",
            )
        if self._endpoint and not _host(self._endpoint):
            raise self._failure(
                FailureReason.SOURCE_UNREACHABLE, f"the endpoint {self._endpoint} has no host after its //"
            )
        key, secret = _CREDENTIALS[0]
        if bool(os.environ.get(key)) != bool(os.environ.get(secret)):
            raise self._failure(
                FailureReason.SOURCE_DENIED,
                f"of {_WHERE} only one is set; set both, or neither for what is open to all",
            )

    def listing(self) -> Listing:
        """See `Origin`; the version is made of names, sizes and ETags of what is taken."""
        found: list[RemoteFile] = []
        try:
            for objects in obstore.list(self._store, prefix=self._prefix, chunk_size=1000):
                found += [
                    RemoteFile(each["path"].removeprefix(f"{self._prefix}/"), each["size"], _identity(each["e_tag"]))
                    for each in objects
                ]
                if len(found) > MOST_OBJECTS:
                    raise self._failure(
                        FailureReason.MODEL_INVALID,
                        f"there are more than {MOST_OBJECTS} objects below the prefix; name the folder of one model",
                    )
        except (BaseError, OSError, ValueError) as error:
            raise self._meant(error) from error
        if not found:
            raise self._failure(
                FailureReason.MODEL_NOT_FOUND,
                f"nothing in the bucket {self._bucket} has the prefix {self._prefix}/ {self._at}; look at its spelling",
            )
        version = _version(files_to_take(self._uri, found))
        if self._version and version != self._version:
            raise self._failure(
                FailureReason.MODEL_NOT_FOUND,
                f"what is there now {self._at} is version {version}; put back what {self._version} was, or name this",
            )
        return Listing(version, tuple(found))

    def read(self, file: RemoteFile, version: str | None, offset: int) -> Iterator[bytes]:
        """See `Origin`."""
        options: GetOptions = {"range": {"offset": offset}} if offset else {}
        if file.digest is not None:
            options["if_match"] = file.digest.removeprefix(_ETAG)
        try:
            found = obstore.get(self._store, f"{self._prefix}/{file.name}", options=options)
            if _identity(found.meta["e_tag"]) != file.digest:  # Not every store heeds If-Match.
                raise self._refused(HTTPStatus.PRECONDITION_FAILED, "", file.name)
            for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                yield bytes(block)
        except (BaseError, OSError, ValueError) as error:
            raise self._meant(error, file.name) from error

    def checksum(self, file: RemoteFile) -> str | None:
        """See `Origin`: an ETag that is an MD5, except where a key of the user's own encrypts the object."""
        etag = (file.digest or "").removeprefix(_ETAG).strip('"')
        if not _MD5.fullmatch(etag) or (not self._anonymous and self._is_encrypted(file.name)):
            return None
        return f"md5:{etag}"

    def _is_encrypted(self, name: str) -> bool:
        try:
            url = obstore.sign(self._store, "HEAD", f"{self._prefix}/{name}", timedelta(minutes=5))
            answer = httpx2.head(url, timeout=TIMEOUT_S)
        except (BaseError, OSError, ValueError) as error:
            raise self._meant(error, name) from error
        except httpx2.HTTPError as error:
            raise Transient(f"{self._at}: {type(error).__name__}") from error
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise self._refused(answer.status_code, "", name)
        return answer.headers.get("x-amz-server-side-encryption", "AES256") != "AES256"

    def _meant(self, error: Exception, name: str = "") -> Exception:
        """What an error of the library means to the user. Its text may hold keys and tokens, and is never told."""
        text = str(error)
        status, code, cause = _STATUS.search(text), _CODE.search(text), _CAUSE.search(text)
        if status is not None:
            return self._refused(int(status[1]), code[1] if code else "", name)
        if isinstance(error, FileNotFoundError):
            return self._refused(HTTPStatus.NOT_FOUND, "", name)
        if _REDIRECTED in text:
            return self._refused(HTTPStatus.MOVED_PERMANENTLY, "", name)
        return Transient(f"no answer {self._at}: {cause[1].strip() if cause else type(error).__name__}")

    def _refused(self, status: int, code: str, name: str) -> Exception:
        told = f"{status} {code}".strip()
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            return Transient(f"an answer {self._at} is {told}")
        if status == HTTPStatus.PRECONDITION_FAILED:
            return self._failure(
                FailureReason.DOWNLOAD_CORRUPT,
                f"{name} was replaced while the model was downloaded; the next try takes what is there then. Give "
                "each version of a model a prefix of its own",
            )
        if status < HTTPStatus.BAD_REQUEST or code in _ELSEWHERE:
            return self._failure(
                FailureReason.SOURCE_DENIED,
                f"the bucket {self._bucket} is in another region than is asked {self._at} ({told}); set AWS_REGION",
            )
        if status == HTTPStatus.NOT_FOUND and name:
            return self._failure(FailureReason.MODEL_NOT_FOUND, f"{name} is no longer there {self._at} ({told})")
        if status == HTTPStatus.NOT_FOUND:
            return self._failure(
                FailureReason.MODEL_NOT_FOUND, f"there is no bucket {self._bucket} {self._at} ({told})"
            )
        whose = "there are none" if self._anonymous else "those there may not read it, or are not right"
        return self._failure(
            FailureReason.SOURCE_DENIED,
            f"access is denied {self._at} ({told}). Credentials are read from {_WHERE}; {whose}",
        )

    @property
    def _at(self) -> str:
        return f"at {self._endpoint or 'the endpoint of AWS'}"

    def _failure(self, reason: FailureReason, message: str) -> StartFailure:
        return StartFailure(reason, f"{self._uri}: {message}")


def _version(files: Sequence[RemoteFile]) -> str:
    content = sorted([file.name, file.size, file.digest] for file in files)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _identity(etag: str | None) -> str | None:
    return None if etag is None else f"{_ETAG}{etag}"


def _client_options(endpoint: str) -> "ClientConfig":
    """Plain HTTP only to an endpoint that was named so; any length of download, but no silence."""
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=TIMEOUT_S),
        "read_timeout": timedelta(seconds=TIMEOUT_S),
        "timeout": timedelta(days=7),
    }
    bundle = Path(os.environ.get("SSL_CERT_FILE", ""))
    if bundle.is_file():
        options["root_certificate"] = bundle.read_bytes()
    return options
