"""The way of a model's files into a folder: resumed where it was cut, tried again, checked."""

import hashlib
import os
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.origin import Origin, RemoteFile, Transient

T = TypeVar("T")

AT_ONCE = 4
"""Files that come at the same time."""

_PART = ".part"
_PROGRESS_BYTES = 2**20
"""A try that brought this much was no failure in vain."""


@dataclass(frozen=True)
class Patience:
    """How often something is tried, and how long it is waited in between."""

    attempts: int = 6
    """Tries in a row that bring nothing."""
    first_s: float = 1.0
    most_s: float = 30.0

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after so many failures: twice as long each time, and not the same for all replicas."""
        return min(self.most_s, self.first_s * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Transfer:
    """Brings the files of one model; `brought` counts the bytes that are there."""

    def __init__(
        self, origin: Origin, version: str | None, folder: Path, *, uri: str, patience: Patience = Patience()
    ) -> None:
        self._origin = origin
        self._version = version
        self._folder = folder
        self._uri = uri
        self._patience = patience
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._brought: dict[str, int] = {}

    @property
    def brought(self) -> int:
        """Bytes that are there, those of former tries too."""
        with self._lock:
            return sum(self._brought.values())

    def run(self, files: Sequence[RemoteFile]) -> None:
        """Bring `files`, the first one alone, the rest several at once.

        Raises:
            StartFailure: one cannot be had, or is not what its origin says.
        """
        if files:
            self._bring(files[0])
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="download") as pool:
            tasks = [pool.submit(self._bring, file) for file in files[1:]]
            done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
            failed = next((task for task in done if task.exception() is not None), None)
            if failed is not None:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                failed.result()

    def _bring(self, file: RemoteFile) -> None:
        target = self._folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # It got its name after it was checked.
            self._count(file, file.size)
            return
        part = target.with_name(target.name + _PART)
        checksum = self._checksum(file)
        if not self._is_right(file, part, checksum):
            # What an earlier try left may have been spoilt on the way, or on this disk: once more from the beginning.
            part.unlink()
            if not self._is_right(file, part, checksum):
                part.unlink()
                raise StartFailure(
                    FailureReason.DOWNLOAD_CORRUPT,
                    f"{self._uri}: {file.name} came twice with other bytes than its origin's checksum says "
                    f"({checksum}); upload the file again, or look for a proxy on the way that changes files",
                )
        part.rename(target)

    def _checksum(self, file: RemoteFile) -> str | None:
        try:
            return patiently(lambda: self._origin.checksum(file), self._patience, self._stop.wait)
        except Transient as trouble:
            raise self._unreachable(file, 0, trouble) from trouble

    def _is_right(self, file: RemoteFile, part: Path, checksum: str | None) -> bool:
        """Have all of `file` in `part`, and see whether it is what its origin says."""
        kind, _, expected = (checksum or "").partition(":")
        return self._fill(file, part, _hash_for(kind, file.size)) == expected or checksum is None

    def _fill(self, file: RemoteFile, part: Path, digest: _Hash) -> str:
        """Append to `part` what is missing; the digest of the whole."""
        failures = 0
        with part.open("a+b") as stream:
            if stream.tell() > file.size:
                stream.truncate(0)
            stream.seek(0)
            while block := stream.read(2**20):
                digest.update(block)
            while (begin := stream.tell()) < file.size:
                try:
                    self._append(file, stream, digest)
                except Transient as trouble:
                    failures = 1 if stream.tell() - begin >= _PROGRESS_BYTES else failures + 1
                    if failures >= self._patience.attempts:
                        raise self._unreachable(file, stream.tell(), trouble) from trouble
                    stream.flush()
                    if self._stop.wait(self._patience.pause_s(failures)):
                        raise StartFailure(FailureReason.SOURCE_UNREACHABLE, f"{self._uri}: stopped") from trouble
            stream.flush()
            os.fsync(stream.fileno())
        self._count(file, file.size)
        return digest.hexdigest()

    def _append(self, file: RemoteFile, stream: Any, digest: _Hash) -> None:
        """One try: from where `stream` ends to the end of `file`."""
        self._count(file, stream.tell())
        for block in self._origin.read(file, self._version, stream.tell()):
            if stream.tell() + len(block) > file.size:
                raise StartFailure(
                    FailureReason.DOWNLOAD_CORRUPT,
                    f"{self._uri}: {file.name} is longer than the {file.size} bytes that its origin says; it may be "
                    "changing just now: try again when it is uploaded",
                )
            stream.write(block)
            digest.update(block)
            self._count(file, stream.tell())
            if self._stop.is_set():
                raise StartFailure(FailureReason.SOURCE_UNREACHABLE, f"{self._uri}: stopped")
        if stream.tell() < file.size:
            raise Transient(f"{file.name} ended after {stream.tell()} of {file.size} bytes")

    def _count(self, file: RemoteFile, there: int) -> None:
        with self._lock:
            self._brought[file.name] = there

    def _unreachable(self, file: RemoteFile, there: int, trouble: Transient) -> StartFailure:
        return StartFailure(
            FailureReason.SOURCE_UNREACHABLE,
            f"{self._uri}: {file.name} stopped at {there} of {file.size} bytes, and {self._patience.attempts} tries in "
            f"a row brought nothing more ({trouble}). What is there is kept for the next try",
        )


def patiently(asked: Callable[[], T], patience: Patience, pause: Callable[[float], object]) -> T:
    """What `asked` returns, tried again while it fails for a moment; the last `Transient` where that does not help."""
    for failures in range(1, patience.attempts):
        try:
            return asked()
        except Transient:
            pause(patience.pause_s(failures))
    return asked()


def _hash_for(kind: str, size: int) -> _Hash:
    if kind == "git":
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(f"blob {size}\0".encode())
        return digest
    return hashlib.md5(usedforsecurity=False) if kind == "md5" else hashlib.sha256()
