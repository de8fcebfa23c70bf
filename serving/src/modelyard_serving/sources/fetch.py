"""A model's folder in the cache, downloaded before where it has to be."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from modelyard_serving.contract import CacheConfig, FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.cache import Cache, Hold
from modelyard_serving.sources.order import Order, Tell

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Variables that keep the loading of models offline, and would keep the download too."""

_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class Copy:
    """A model in the cache; it stays there until `hold` is closed."""

    path: Path
    hold: Hold


def fetch(uri: str, cache: CacheConfig, tell: Tell) -> Copy:
    """Have the model `uri` in the cache; blocks until it is there, and tells of it meanwhile.

    Raises:
        StartFailure: it cannot be had.
    """
    order = Order(uri=uri, root=Path(cache.path), limit_bytes=cache.limit_bytes)
    with tempfile.TemporaryFile("w+") as errors, _started(errors) as process:
        to_it, from_it = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        to_it.write(order.model_dump_json() + "\n")
        to_it.flush()
        for line in from_it:
            entry: dict[str, Any] = json.loads(line)
            match entry:
                case {"event": "landed", "key": key}:
                    store = Cache(order.root, order.limit_bytes, source=uri)
                    return Copy(store.model(key), store.hold(key))
                case {"event": "failed", "reason": reason, "message": message}:
                    raise StartFailure(FailureReason(reason), message)
                case _:
                    tell(entry.pop("event"), **entry)
        errors.seek(0)
        last = errors.read().strip().splitlines()[-1:]
    raise StartFailure(FailureReason.SOURCE_UNREACHABLE, f"{uri}: the download broke off: {' '.join(last)}")


def _started(errors: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "modelyard_serving.sources"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in _OFFLINE} | _QUIET,
    )
