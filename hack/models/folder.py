"""A model's folder appears whole or not at all, and knows which version it holds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

VERSION_FILE = ".modelyard-version"


def is_finished(folder: Path, version: str) -> bool:
    """Whether `folder` holds the finished model of this version."""
    stamp = folder / VERSION_FILE
    return stamp.is_file() and stamp.read_text() == version


def prepare(folder: Path, version: str, build: Callable[[Path], None]) -> None:
    """Let `build` fill a new folder beside `folder`, then put it in its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        build(fresh)
        (fresh / VERSION_FILE).write_text(version)
        for file in fresh.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)  # safetensors writes 0600; pods read as another user
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
