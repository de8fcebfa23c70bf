"""`make demo`: serves examples/smollm2.yaml on this machine, asks it a question, and tells where the time went.

KEEP=1 in the environment leaves the model up.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from openai import OpenAI

from modelyard_hack.layout import REPOSITORY, cache_folder

QUESTION = "What is the capital of France?"
PORT = int(os.environ.get("PORT", "8000"))
LOG = cache_folder() / "demo.log"


def main() -> int:
    """Serve, ask, tell, stop. Returns the exit code."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    server = _start()
    keep = False
    try:
        ready = _wait(server)
        if ready is None:
            print(f"the model did not come up; {LOG} has the details", file=sys.stderr)
            return 1
        _ask(ready)
        keep = os.environ.get("KEEP") == "1"
    finally:
        if not keep:
            _stop(server)
    if keep:
        print(f"\nStill up: {ready['services'][0]['url']} (stop it with: kill {server.pid})")
    return 0


def _start() -> subprocess.Popen[str]:
    command = [
        str(Path(sys.executable).parent / "modelyard"), "run", "-f", str(REPOSITORY / "examples/smollm2.yaml"),
        "--volume", f"models={cache_folder() / 'models'}", "--port", str(PORT), "-o", "json",
    ]  # fmt: skip
    print("$ modelyard", *command[1:], flush=True)
    with LOG.open("w") as log:
        # A session of its own: with KEEP=1 it goes on after this program.
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)


def _stop(server: subprocess.Popen[str]) -> None:
    server.terminate()
    try:
        server.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)


def _wait(server: subprocess.Popen[str]) -> dict[str, Any] | None:
    """The line that says that all is ready, or None when the server ended; shows its progress meanwhile."""
    done = threading.Event()
    showing = threading.Thread(target=_show_progress, args=(done,))
    showing.start()
    try:
        line = server.stdout.readline() if server.stdout else ""
    finally:
        done.set()
        showing.join()
    return json.loads(line) if line else None


def _show_progress(done: threading.Event) -> None:
    with LOG.open() as log:
        while True:
            last = done.wait(0.2)
            for line in log:
                print("  " + line, end="", flush=True)
            if last:
                return


def _ask(ready: dict[str, Any]) -> None:
    service = ready["services"][0]
    client = OpenAI(base_url=service["url"], api_key="none")
    print(f"\n> {QUESTION}\n< ", end="", flush=True)
    asked = time.monotonic()
    first, tokens = 0.0, 0
    stream = client.chat.completions.create(
        model=service["service"], messages=[{"role": "user", "content": QUESTION}], temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    for chunk in stream:
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            first = first or time.monotonic() - asked
            print(text, end="", flush=True)
    total = time.monotonic() - asked
    _tell(ready, first, total, tokens)


def _tell(ready: dict[str, Any], first: float, total: float, tokens: int) -> None:
    service = ready["services"][0]
    start = service["start"]
    known = start["imports_s"] + start["load_s"] + start["warmup_s"] + service["seconds"]
    rows = [
        ("Ray and the replica's process", ready["ready_s"] - known),
        ("importing torch and transformers", start["imports_s"]),
        ("checking and reading the weights", start["load_s"]),
        ("warm-up", start["warmup_s"]),
        ("proof: a first real inference", service["seconds"]),
        ("ready", ready["ready_s"]),
        ("the answer's first token", first),
        (f"the whole answer, {tokens} tokens", total),
    ]
    print("\n\nWhere the time went:")
    for name, seconds in rows:
        print(f"  {name:<34}{seconds:8.2f} s")


if __name__ == "__main__":
    sys.exit(main())
