"""Environments of peers, each made once in the user's cache, by name and version."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Install = Callable[..., None]
"""Installs packages; arguments as those of `uv pip install`."""


def environment(name: str, uv: Path, fill: Callable[[Path, Install], None]) -> Path:
    """The virtual environment `name`, made whole or not at all by `fill`, which gets its folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelyard" / "venvs"
    home = cache / name
    done = home / ".complete"
    if done.exists():
        return home
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(home)], check=True)

    def install(*arguments: str) -> None:
        command = [str(uv), "pip", "install", "--quiet", "--python", str(home / "bin" / "python")]
        subprocess.run([*command, *arguments], check=True)

    fill(home, install)
    done.touch()
    return home
