"""What a replica says about itself: one JSON object a line, never a word of what was asked or answered."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from modelyard_serving.contract import LOG_FILE_ENV

Level = Literal["info", "warning", "error"]


class Journal:
    """Writes each entry with one system call, so that replicas may share a file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bound: dict[str, str] = {}

    @classmethod
    def open(cls) -> "Journal":
        """A journal that writes where `MODELYARD_LOG_FILE` says, or to standard output."""
        path = os.environ.get(LOG_FILE_ENV)
        if not path:
            return cls(sys.stdout.fileno())
        try:
            return cls(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
        except OSError as error:
            journal = cls(sys.stdout.fileno())
            journal.write("log-file-refused", level="warning", path=path, message=error.strerror)
            return journal

    def bind(self, **fields: str) -> None:
        """Put these fields into every later entry."""
        self._bound |= fields

    def write(self, event: str, *, level: Level = "info", **fields: Any) -> None:
        """Write one entry; fields that are None are left out."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "level": level, "event": event, **self._bound, **fields}
        line = json.dumps({key: value for key, value in entry.items() if value is not None}) + "\n"
        os.write(self._descriptor, line.encode())
