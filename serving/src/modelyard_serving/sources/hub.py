"""A repository of a hub, by huggingface_hub: its endpoint and token come from that library's own variables.

Files are read over plain HTTP, so that any mirror will do and a cut download goes on where it ended.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.origin import Listing, RemoteFile, Transient
from modelyard_serving.sources.ranges import bytes_from

TIMEOUT_S = 30.0
"""Seconds of silence after which a request is given up and made again."""

_SHA256_DIGITS = 64
_CREDENTIALS = "HF_TOKEN (on a cluster a variable of the ServingCluster's spec.runtime.env, with secretKeyRef)"


class HubRepository:
    """`hf://<org>/<repo>[@<revision>]`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._repo, _, revision = uri.removeprefix("hf://").partition("@")
        self._revision = revision or constants.DEFAULT_REVISION

    def listing(self) -> Listing:
        """See `Origin`; the version is the commit."""
        try:
            info = HfApi(library_name="modelyard").model_info(
                self._repo, revision=self._revision, files_metadata=True, timeout=TIMEOUT_S
            )
            files = tuple(self._described(each, info.sha) for each in info.siblings or ())
        except Exception as error:
            raise self._meant(error) from error
        return Listing(info.sha, files)

    def read(self, file: RemoteFile, version: str | None, offset: int) -> Iterator[bytes]:
        """See `Origin`."""
        headers = build_hf_headers(library_name="modelyard") | {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        url = hf_hub_url(self._repo, file.name, revision=version)
        try:
            with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
                if response.status_code >= HTTPStatus.BAD_REQUEST:
                    response.read()
                hf_raise_for_status(response)
                yield from bytes_from(response, offset)
        except hub_errors.HTTPError as error:
            raise self._meant(error) from error

    def checksum(self, file: RemoteFile) -> str | None:
        """See `Origin`."""
        return file.digest

    def _described(self, sibling: Any, commit: str) -> RemoteFile:
        """A file of the repository; mirrors that tell no sizes are asked for each file."""
        if sibling.size is not None and sibling.lfs is not None:
            return RemoteFile(sibling.rfilename, sibling.size, f"sha256:{sibling.lfs.sha256}")
        if sibling.size is not None:
            return RemoteFile(sibling.rfilename, sibling.size, f"git:{sibling.blob_id}" if sibling.blob_id else None)
        found = get_hf_file_metadata(hf_hub_url(self._repo, sibling.rfilename, revision=commit), timeout=TIMEOUT_S)
        if found.size is None or found.etag is None:
            raise Transient(f"{constants.ENDPOINT} does not tell the size of {sibling.rfilename}")
        kind = "sha256" if len(found.etag) == _SHA256_DIGITS else "git"
        return RemoteFile(sibling.rfilename, found.size, f"{kind}:{found.etag}")

    def _meant(self, error: Exception) -> Exception:
        """What an error of the library means to the user; the error itself where it is none of the hub's."""
        at = f"at {constants.ENDPOINT}"
        match error:
            case hub_errors.GatedRepoError():
                return self._denied(f"the repository is gated {at}. Accept its terms there, with the account whose "
                                    f"token is in {_CREDENTIALS}")  # fmt: skip
            case hub_errors.RevisionNotFoundError():
                return self._not_found(f"the repository {self._repo} {at} has no revision {self._revision!r}; name a "
                                       "branch, a tag or a commit after the @")  # fmt: skip
            case hub_errors.RepositoryNotFoundError():
                token = "the token there may not read it" if get_token() else "there is none"
                return self._not_found(f"there is no repository {self._repo} {at}. If it is private, it needs a token "
                                       f"in {_CREDENTIALS}; {token}")  # fmt: skip
            case hub_errors.HFValidationError():
                return self._not_found(f"not the name of a repository: {error}")
            case hub_errors.HfHubHTTPError():
                return self._refused(error.response.status_code, at)
            case hub_errors.HTTPError():
                return Transient(f"{constants.ENDPOINT}: {error or type(error).__name__}")
        return error

    def _refused(self, status: int, at: str) -> Exception:
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            token = "the token there may not read it" if get_token() else "there is no token"
            return self._denied(f"access is denied {at} ({status}). The token is read from {_CREDENTIALS}; {token}")
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return self._not_found(f"not found {at} ({status}): repository {self._repo}, revision {self._revision}")
        return Transient(f"{constants.ENDPOINT} answers {status}")

    def _not_found(self, message: str) -> StartFailure:
        return StartFailure(FailureReason.MODEL_NOT_FOUND, f"{self._uri}: {message}")

    def _denied(self, message: str) -> StartFailure:
        return StartFailure(FailureReason.SOURCE_DENIED, f"{self._uri}: {message}")
