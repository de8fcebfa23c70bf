"""Compiles serving/native when the project is installed or its wheel is built, for x86-64 Linux with a C compiler.

Elsewhere the wheel goes without: the replica then computes with torch's operations alone.
"""

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("serving/native")
LIBRARY = Path("serving/src/modelyard_serving/engines/batching/libmodelyard_text.so")
FLAGS = [
    "-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror", "-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16",
    "-fPIC", "-shared", "-pthread", "-s",
]  # fmt: skip
"""The processor is asked at run time (engines/batching/tiles.py)."""


def compile_library(root: Path, compiler: str) -> None:
    """Make the library out of all sources; raises `CalledProcessError` with the compiler's words on its stderr."""
    sources = sorted(str(each.relative_to(root)) for each in (root / SOURCES).glob("*.c"))
    subprocess.run([compiler, *FLAGS, *sources, "-o", str(LIBRARY), "-lm"], cwd=root, check=True)


class LibraryBuildHook(BuildHookInterface[Any]):
    """What hatchling calls."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if sys.platform != "linux" or platform.machine() != "x86_64" or compiler is None:
            self.app.display_warning("no C compiler for x86-64 Linux: text is computed without processor tiles")
            return
        compile_library(Path(self.root), compiler)
        if version != "editable":
            build_data["artifacts"].append(str(LIBRARY))
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-linux_x86_64"
