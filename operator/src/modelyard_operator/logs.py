"""Structured logs: one JSON object a line on stderr."""

import json
import logging
import sys
from datetime import UTC, datetime

SUBJECT_FIELDS = ("kind", "object")
"""Given with `extra=`: what the line is about."""


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, what it is about, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {field: getattr(record, field) for field in SUBJECT_FIELDS if hasattr(record, field)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(level: str) -> None:
    """Send all logs from `level` on to stderr; libraries below warnings stay silent."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("modelyard_operator").setLevel(level)
    logging.getLogger("kopf").setLevel(logging.INFO if level == "DEBUG" else logging.WARNING)
    # Why the process ends.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.INFO)
