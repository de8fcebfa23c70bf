"""The cgroups below which the kubelet puts its pods: one folder of ours in each hierarchy, v1 or v2."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

NAME = "modelyard"


def hierarchies(mounts: str) -> list[Path]:
    """Mount points of all cgroup hierarchies in the text of /proc/mounts.

    Where v2 is mounted beside v1 (hybrid) it carries no controller, but runc makes folders in it all the same.
    """
    fields = [line.split() for line in mounts.splitlines()]
    return [Path(field[1]) for field in fields if field[2] in ("cgroup", "cgroup2")]


def roots() -> list[Path]:
    """Our folder in each hierarchy, whether it exists or not."""
    return [mount / NAME for mount in hierarchies(Path("/proc/mounts").read_text())]


def is_v1() -> bool:
    return " cgroup " in Path("/proc/mounts").read_text()


def ensure() -> None:
    for root in roots():
        root.mkdir(exist_ok=True)
        if root.parent.name == "cpuset":
            # A fresh v1 cpuset is empty and takes no process until it is told its processors and memory.
            for name in ("cpuset.cpus", "cpuset.mems"):
                (root / name).write_text((root.parent / name).read_text())


def kill_processes() -> int:
    """SIGKILL whatever still runs in a container of ours; returns how many processes that were."""
    pids = {
        int(line) for root in roots() for listing in root.rglob("cgroup.procs") for line in listing.read_text().split()
    }
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(pids)


def remove(timeout: float = 10) -> list[Path]:
    """Remove our cgroups from the leaves up; returns those that are still busy after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        left = [folder for root in roots() if root.exists() for folder in _leaves_first(root) if not _removed(folder)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _leaves_first(root: Path) -> list[Path]:
    return [Path(path) for path, _, _ in os.walk(root, topdown=False)]


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
