"""What is asked of a place that models come from, and which of its files are taken."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure

TAKEN = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".yaml"})
"""Suffixes of what a replica reads. Pickles (.bin, .pt, .ckpt) are code, and not taken."""

_PACKAGE = "modelyard.yaml"
"""Where this file is there, every file is held against it, so all of them are taken; pickles are still not loaded."""

_STAGES = "modules.json"
"""Only where this file is there are weights in subfolders parts of the model, and not copies in another precision."""

_SAFE = re.compile(r"[^/\\\x00-\x1f]+(/[^/\\\x00-\x1f]+)*")
_LISTED = 8


class Transient(Exception):
    """A failure that may be gone at the next try; the text says what happened."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its origin describes it."""

    name: str
    """Path below the model's folder."""
    size: int
    digest: str | None
    """`sha256:` or `git:` and hexadecimal digits, or `etag:` and what a store calls it; None where it is not told."""


@dataclass(frozen=True)
class Listing:
    """All files of a model at one moment."""

    version: str | None
    """The commit, where the origin has such a thing."""
    files: tuple[RemoteFile, ...]


class Origin(Protocol):
    """Where a model comes from."""

    def listing(self) -> Listing:
        """What is there now.

        Raises:
            StartFailure: nothing is, or it may not be seen.
            Transient: the origin cannot be reached now.
        """

    def read(self, file: RemoteFile, version: str | None, offset: int) -> Iterator[bytes]:
        """The bytes of `file` from `offset` on; raises as `listing`."""

    def checksum(self, file: RemoteFile) -> str | None:
        """What the bytes must hash to, `sha256:`, `git:` or `md5:`; None where it is not known. Raises as `listing`."""


def files_to_take(uri: str, files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """The files that a replica reads, smallest first.

    Raises:
        StartFailure: there are no weights among them, or a name leads out of the folder.
    """
    offered = {file.name: file for file in files}
    taken = [file for name, file in offered.items() if _is_read(name, offered)]
    for file in taken:
        if not _SAFE.fullmatch(file.name) or ".." in file.name.split("/"):
            raise StartFailure(FailureReason.MODEL_INVALID, f"{uri}: a file's name leads elsewhere: {file.name!r}")
    weights = [file for file in taken if file.name.endswith((".safetensors", ".pt2"))]
    own = [file for file in weights if not file.name.startswith("consolidated")]
    if not weights:
        heaviest = sorted(offered.values(), key=lambda file: -file.size)[:_LISTED]
        raise StartFailure(
            FailureReason.MODEL_INVALID,
            f"{uri}: there are neither safetensors nor a package with an exported program. The largest files are "
            f"{', '.join(file.name for file in heaviest) or 'none'}; convert the weights, or name another model",
        )
    # Some publish the same weights twice, the second time for another program.
    spare = set(weights) - set(own) if own and _PACKAGE not in offered else set()
    return tuple(sorted((file for file in taken if file not in spare), key=lambda file: (file.size, file.name)))


def _is_read(name: str, offered: dict[str, RemoteFile]) -> bool:
    path = PurePosixPath(name)
    if any(part.startswith(".") and part != ".." for part in path.parts):
        return False
    if _PACKAGE in offered:
        return True
    if path.suffix not in TAKEN:
        return False
    return path.suffix != ".safetensors" or len(path.parts) == 1 or _STAGES in offered
