"""A folder of models that were downloaded, shared by any number of replicas on any number of nodes.

    models/<key>/     a whole model, with RECORD beside its files; it comes here by one rename
    partial/<key>/    what is there of a model that is being downloaded
    locks/<key>.lock  held by whoever downloads or removes the model
    locks/<key>.use   held, together with others, by each replica that has the model open; its time is that of last use
    locks/space       held while space is found

All locks are flock(2), which the kernel takes back from a process that dies.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.origin import Listing, RemoteFile

RECORD = ".modelyard-source.json"
_BLOCK_BYTES = 4096
_POLL_S = 0.5
_LISTED = 5


def free_bytes(folder: Path) -> int:
    """What a user without privileges may still write to the volume of `folder`."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def model_key(uri: str, listing: Listing, files: Sequence[RemoteFile]) -> str:
    """The name of exactly this content from this source."""
    content = [uri.partition("@")[0], listing.version, *([file.name, file.size, file.digest] for file in files)]
    readable = "".join(c if c.isalnum() else "-" for c in uri.partition("@")[0].rpartition("/")[2])[:40]
    return f"{readable}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}"


def space_of(files: Sequence[RemoteFile]) -> int:
    """Bytes that `files` take on a disk, with their folder and record."""
    return sum(-(-file.size // _BLOCK_BYTES) * _BLOCK_BYTES for file in files) + 4 * _BLOCK_BYTES


class Hold:
    """As long as it is open, the model is in use and stays."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def close(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(frozen=True)
class _Tenant:
    """What takes space in the cache."""

    key: str
    uri: str
    size: int
    last_use: float


class Cache:
    """See the module."""

    def __init__(
        self, root: Path, limit_bytes: int | None, *, free: Callable[[Path], int] = free_bytes, source: str = ""
    ) -> None:
        self._root = root
        self._limit = limit_bytes
        self._free = free
        self._source = source
        try:
            for name in ("models", "partial", "locks"):
                (root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartFailure(
                FailureReason.CACHE_NOT_WRITABLE,
                f"{source}: the folder {root} for downloads cannot be written by user {os.geteuid()} "
                f"({error.strerror}); give the volume of the ServingCluster's spec.modelCache to group 1000",
            ) from error

    def model(self, key: str) -> Path:
        """The folder of a model that is there, or would be."""
        return self._root / "models" / key

    def partial(self, key: str) -> Path:
        """The folder into which a model is downloaded."""
        return self._root / "partial" / key

    def has(self, key: str) -> bool:
        """Whether the model is there, each file as long as its record says."""
        record = _read(self.model(key) / RECORD)
        if record is None:
            return False
        files = [(self.model(key) / file["name"], file["size"]) for file in record["files"]]
        return all(path.is_file() and path.stat().st_size == size for path, size in files)

    def newest_of(self, uri: str) -> str | None:
        """The key of the copy of `uri` that came last."""
        records = {path.name: _read(path / RECORD) for path in (self._root / "models").iterdir()}
        mine = {key: record["landed"] for key, record in records.items() if record and record["uri"] == uri}
        return max((key for key in mine if self.has(key)), key=lambda key: mine[key], default=None)

    @contextmanager
    def locked(self, key: str, waiting: Callable[[int], None]) -> Iterator[None]:
        """Be the only one that downloads `key`; `waiting` is called twice a second with the bytes that are there."""
        descriptor = self._open(f"{key}.lock")
        try:
            while not _try_lock(descriptor, fcntl.LOCK_EX):
                waiting(_size_of(self.partial(key)))
                time.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def hold(self, key: str) -> Hold:
        """Keep the model from being removed; note that it is used now."""
        descriptor = self._open(f"{key}.use")
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(descriptor)
        return Hold(descriptor)

    def make_room(self, key: str, files: Sequence[RemoteFile]) -> None:
        """Reserve the space for `files`; what was not used for longest goes, and nothing that is in use.

        Raises:
            StartFailure: there cannot be enough, or not now.
        """
        need = space_of(files)
        if self._limit is not None and need > self._limit:
            raise self._full(f"the model takes {_gib(need)}, and the cache may hold {_gib(self._limit)}. Raise "
                             "spec.modelCache.size of the ServingCluster")  # fmt: skip
        descriptor = self._open("space")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._make_room(key, need)
            self.partial(key).mkdir(exist_ok=True)
            (self.partial(key) / RECORD).write_text(json.dumps({"uri": self._source, "space": need}))
        finally:
            os.close(descriptor)

    def land(self, key: str, listing: Listing, files: Sequence[RemoteFile]) -> Path:
        """Make the downloaded files the model `key`."""
        record = {
            "uri": self._source,
            "version": listing.version,
            "landed": time.time(),
            "space": space_of(files),
            "files": [{"name": file.name, "size": file.size, "digest": file.digest} for file in files],
        }
        (self.partial(key) / RECORD).write_text(json.dumps(record, indent=1))
        target = self.model(key)
        if target.exists():  # It was damaged, or it would not have been downloaded again.
            shutil.rmtree(target)
        self.partial(key).rename(target)
        return target

    def no_space(self, key: str, files: Sequence[RemoteFile]) -> StartFailure:
        """What to say when the disk is full in spite of all."""
        missing = space_of(files) - _size_of(self.partial(key))
        return self._full(
            f"the disk of {self._root} is full: {_gib(missing)} are missing, {_gib(self._free(self._root))} are free. "
            "Give the cache a larger volume, or free some space"
        )

    def _make_room(self, key: str, need: int) -> None:
        tenants = [tenant for tenant in self._tenants() if tenant.key != key]
        kept: list[_Tenant] = []
        for tenant in sorted(tenants, key=lambda tenant: tenant.last_use):
            if self._fits(key, need):
                return
            if not self._remove(tenant.key):
                kept.append(tenant)
        if self._fits(key, need):
            return
        held = ", ".join(f"{tenant.uri} ({_gib(tenant.size)})" for tenant in kept[:_LISTED]) or "nothing else"
        bound = f"the cache may hold {_gib(self._limit)}" if self._limit is not None else "the disk is the limit"
        raise self._full(
            f"the model takes {_gib(need)}, {bound}, {_gib(self._free(self._root))} are free on the disk, and in use "
            f"are {held}. Give the cache more room (spec.modelCache of the ServingCluster), or stop what uses it"
        )

    def _fits(self, key: str, need: int) -> bool:
        there = _size_of(self.partial(key))
        pending = sum(
            max(0, tenant.size - _size_of(self.partial(tenant.key)))
            for tenant in self._tenants()
            if self.partial(tenant.key).exists() and tenant.key != key
        )
        if need - there + pending > self._free(self._root):
            return False
        taken = sum(tenant.size for tenant in self._tenants() if tenant.key != key)
        return self._limit is None or taken + need <= self._limit

    def _tenants(self) -> list[_Tenant]:
        found = []
        for folder in (*(self._root / "models").iterdir(), *(self._root / "partial").iterdir()):
            record = _read(folder / RECORD) or {}
            use = self._root / "locks" / f"{folder.name}.use"
            last = max((path.stat().st_mtime for path in (use, folder) if path.exists()), default=0.0)
            size = record.get("space") or _size_of(folder)
            found.append(_Tenant(folder.name, record.get("uri", folder.name), size, last))
        return found

    def _remove(self, key: str) -> bool:
        """Remove what is there of a model, unless somebody uses or downloads it."""
        descriptors = [self._open(f"{key}.lock"), self._open(f"{key}.use")]
        try:
            if not all(_try_lock(descriptor, fcntl.LOCK_EX) for descriptor in descriptors):
                return False
            gone = self.partial(key)
            if self.model(key).exists():
                shutil.rmtree(gone, ignore_errors=True)
                self.model(key).rename(gone)  # At no moment is half a model among the whole ones.
            shutil.rmtree(gone, ignore_errors=True)
            return True
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _open(self, name: str) -> int:
        return os.open(self._root / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)

    def _full(self, message: str) -> StartFailure:
        return StartFailure(FailureReason.CACHE_FULL, f"{self._source}: {message}")


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _size_of(folder: Path) -> int:
    """Bytes of the files in `folder`, which may be changing."""
    size = 0
    for file in folder.rglob("*"):
        try:
            size += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return size


def _gib(number: int) -> str:
    """Bytes for people."""
    for unit, name in ((2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki")):
        if abs(number) >= unit:
            return f"{number / unit:.1f}{name}"
    return str(number)
