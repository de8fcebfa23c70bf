"""What is to be downloaded, and how it is done: find, lock, make room, bring, land."""

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.cache import Cache
from modelyard_serving.sources.cache import model_key as key_of
from modelyard_serving.sources.origin import Listing, Origin, RemoteFile, Transient, files_to_take
from modelyard_serving.sources.transfer import Patience, Transfer, patiently

TELL_EVERY_S = 5.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Order(BaseModel):
    """A model and the cache that it should be in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    root: Path
    limit_bytes: int | None


class Tell(Protocol):
    """Says what happens, as an entry of the journal."""

    def __call__(self, event: str, **fields: Any) -> None: ...


@dataclass(frozen=True)
class Download:
    """One download with all that it depends on."""

    order: Order
    origin: Origin
    cache: Cache
    tell: Tell
    patience: Patience = field(default_factory=Patience)
    pause: Callable[[float], object] = field(default_factory=lambda: threading.Event().wait)

    @contextmanager
    def stored(self) -> Iterator[str]:
        """The key of the model in the cache, where it stays at least until the context ends.

        Raises:
            StartFailure: it cannot be had.
        """
        try:
            listing = patiently(self.origin.listing, self.patience, self.pause)
        except Transient as trouble:
            key = self._copy(trouble)
            with self.cache.locked(key, self._waiting):
                yield key
            return
        files = files_to_take(self.order.uri, listing.files)
        key = key_of(self.order.uri, listing, files)
        size = sum(file.size for file in files)
        with self.cache.locked(key, lambda there: self._waiting(there, size)):
            if not self.cache.has(key):
                self.cache.make_room(key, files)
                self._bring(key, listing, files)
                self.cache.land(key, listing, files)
            yield key

    def _copy(self, trouble: Transient) -> str:
        """The copy that came last, where the origin cannot be asked."""
        key = self.cache.newest_of(self.order.uri)
        if key is None:
            raise StartFailure(
                FailureReason.SOURCE_UNREACHABLE,
                f"{self.order.uri}: cannot be reached in {self.patience.attempts} tries, and the cache has no copy "
                f"({trouble}); look at the network, the proxy and the endpoint",
            ) from trouble
        self.tell("source-unreachable", level="warning", message=f"the copy that came last is used: {trouble}")
        return key

    def _bring(self, key: str, listing: Listing, files: Sequence[RemoteFile]) -> None:
        folder, total = self.cache.partial(key), sum(file.size for file in files)
        transfer = Transfer(self.origin, listing.version, folder, uri=self.order.uri, patience=self.patience)
        over = threading.Event()

        def report() -> None:
            while not over.wait(TELL_EVERY_S):
                self.tell("download", bytes=total, done_bytes=transfer.brought)

        self.tell("download", bytes=total, files=len(files), version=listing.version)
        reporter = threading.Thread(target=report, name="download-report", daemon=True)
        reporter.start()
        try:
            transfer.run(files)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise self.cache.no_space(key, files) from error
            raise
        finally:
            over.set()
            reporter.join()

    def _waiting(self, there: int, size: int | None = None) -> None:
        message = "another replica downloads the same model"
        self.tell("download-waits", message=message, bytes=size, done_bytes=there)
