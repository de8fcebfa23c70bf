"""`make models`: prepares every model once; the next run sees the finished folders and returns at once."""

from __future__ import annotations

import os
import sys

from models import efficientnet_lite0, gpt2_small, minilm, smollm2, whisper_tiny
from models.preparing import Model, prepare_models

MODELS = {
    "efficientnet-lite0": Model(efficientnet_lite0.VERSION, efficientnet_lite0.build),
    "gpt2-small": Model(gpt2_small.VERSION, gpt2_small.build),
    "minilm": Model(minilm.VERSION, minilm.build),
    "smollm2": Model(smollm2.VERSION, smollm2.build),
    "whisper-tiny": Model(whisper_tiny.VERSION, whisper_tiny.build),
}


def main(names: list[str]) -> int:
    """Prepare the models `names`, or all of them. Returns the exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return prepare_models(MODELS, names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
