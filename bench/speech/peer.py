"""A peer's process: `python peer.py KIND MODEL THREADS`; a line with a file's path in, its text as a line of JSON out.

Needs nothing of this repository: it runs in the peer's own environment too.
"""

import json
import os
import sys
from collections.abc import Callable


def transformers_pipeline(model: str, threads: int) -> Callable[[str], str]:
    """As its documentation has it: chunks of 30 s where a file is longer."""
    import soundfile
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    recognize = pipeline("automatic-speech-recognition", model=model, dtype="auto", chunk_length_s=30, device="cpu")

    def write_down(file: str) -> str:
        samples, rate = soundfile.read(file, dtype="float32")
        text: str = recognize({"raw": samples, "sampling_rate": rate})["text"]
        return text

    return write_down


def faster_whisper(model: str, threads: int, kind: str) -> Callable[[str], str]:
    """Greedy, as all sides are."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(model, device="cpu", compute_type=kind, cpu_threads=threads)

    def write_down(file: str) -> str:
        segments, _ = whisper.transcribe(
            file, beam_size=1, temperature=0.0, condition_on_previous_text=False, language="en"
        )
        return "".join(segment.text for segment in segments)

    return write_down


def main() -> None:
    kind, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.environ["HF_HUB_OFFLINE"] = "1"
    side = transformers_pipeline(model, threads) if kind == "transformers" else faster_whisper(model, threads, kind)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(side(line.strip())), flush=True)


if __name__ == "__main__":
    main()
