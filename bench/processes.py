"""Servers that are compared, each a process of its own on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelyard_serving.contract import ModelConfig, ReplicaConfig

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 1200.0
"""vLLM compiles when it first sees a model: 130 s of three minutes on two busy processors, more on busier ones."""


@contextmanager
def process(command: list[str], environment: dict[str, str], log: Path, ready: str) -> Iterator[None]:
    """A server that is up once `ready` answers, and gone in the end."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(started, ready, log)
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def _wait(process: "subprocess.Popen[bytes]", ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(ready, timeout=5):  # noqa: S310 - a server of ours on loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"it did not come up; the end of {log}:\n" + log.read_text(errors="replace")[-3000:])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def replica(model: Path, service: str, log: Path) -> Iterator[str]:
    """Our replica under uvicorn; yields where it answers."""
    port = free_port()
    config = ReplicaConfig(service=service, revision="00000000", model=ModelConfig(uri=str(model), path=str(model)))
    command = [sys.executable, "-m", "bench.replica", str(port), json.dumps(config.as_user_config())]
    url = f"http://{LOOPBACK}:{port}/v1"
    with process(command, dict(os.environ), log, f"{url}/models"):
        yield url
