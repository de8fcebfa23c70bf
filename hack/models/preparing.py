"""Preparing models by name; those that are finished are left as they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.folder import is_finished, prepare
from modelyard_hack.layout import cache_folder
from modelyard_hack.step import StepError


@dataclass(frozen=True)
class Model:
    """A model that `build` puts into an empty folder; another `version` is built anew."""

    version: str
    build: Callable[[Path], None]


def prepare_models(known: Mapping[str, Model], names: list[str]) -> int:
    """Prepare those of `names`, or all, in the cache. Returns the exit code."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no such model: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    root = cache_folder() / "models"
    for name in names or known:
        model = known[name]
        folder = root / name
        if is_finished(folder, model.version):
            print(f"{name}: ready in {folder}", file=sys.stderr)
            continue
        print(f"{name}:", file=sys.stderr)
        begin = time.monotonic()
        try:
            prepare(folder, model.version, model.build)
        except StepError as failure:
            print(failure.explain(), file=sys.stderr)
            return 1
        print(f"{name}: ready in {folder} after {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return 0
