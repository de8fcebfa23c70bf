"""`make models`: prepares every model once; the next run sees the finished folders and returns at once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from models import efficientnet_lite0, gpt2_small, minilm, smollm2, whisper_tiny
from models.folder import is_finished, prepare
from modelyard_hack.layout import cache_folder
from modelyard_hack.step import StepError

MODELS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "efficientnet-lite0": (efficientnet_lite0.VERSION, efficientnet_lite0.build),
    "gpt2-small": (gpt2_small.VERSION, gpt2_small.build),
    "minilm": (minilm.VERSION, minilm.build),
    "smollm2": (smollm2.VERSION, smollm2.build),
    "whisper-tiny": (whisper_tiny.VERSION, whisper_tiny.build),
}


def main(names: list[str]) -> int:
    """Prepare the models `names`, or all of them. Returns the exit code."""
    unknown = sorted(set(names) - set(MODELS))
    if unknown:
        print(f"no such model: {', '.join(unknown)}; there are {', '.join(MODELS)}", file=sys.stderr)
        return 2
    root = cache_folder() / "models"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in names or MODELS:
        version, build = MODELS[name]
        folder = root / name
        if is_finished(folder, version):
            print(f"{name}: ready in {folder}", file=sys.stderr)
            continue
        print(f"{name}:", file=sys.stderr)
        begin = time.monotonic()
        try:
            prepare(folder, version, build)
        except StepError as failure:
            print(failure.explain(), file=sys.stderr)
            return 1
        print(f"{name}: ready in {folder} after {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
