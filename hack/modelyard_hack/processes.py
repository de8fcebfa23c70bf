"""Starting and stopping long-running components by their real process id.

A pid file holds the process id and its start time as the kernel counts it (field 22 of /proc/PID/stat, see
proc(5)), so that a reused id is never taken for ours.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelyard_hack.layout import StateFolder
from modelyard_hack.step import StepError


@dataclass(frozen=True)
class Component:
    """One daemon: what it is called in logs and pid files, and how it is started."""

    name: str
    command: tuple[str, ...]
    namespace: Path | None = None
    bound: bool = False
    """Ends with the process that started it, however that one ends."""

    def argv(self) -> list[str]:
        if self.bound:
            return ["setpriv", "--pdeathsig", "KILL", "--", *self.command]
        # nsenter replaces itself by the command, so the recorded pid is the daemon's own. `ip netns exec`
        # would remount /sys and hide the cgroups.
        prefix = [] if self.namespace is None else ["nsenter", f"--net={self.namespace}", "--"]
        return [*prefix, *self.command]


def start_time(pid: int) -> str | None:
    """Clock ticks after boot at which `pid` started, or None when there is no such live process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name may hold blanks and brackets: fields are counted after its closing one.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def running_pid(state: StateFolder, name: str) -> int | None:
    """The id of the live process that was started as `name`, or None."""
    try:
        pid, started = (state.pids / name).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if start_time(int(pid)) == started else None


def start(state: StateFolder, component: Component) -> int:
    """Start the component unless it runs already; its output is appended to its log. Returns its pid."""
    pid = running_pid(state, component.name)
    if pid is not None:
        return pid
    argv = component.argv()
    with state.log(component.name).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        # Not subprocess: its objects complain when they are dropped while their process runs, as ours shall.
        redirects = [
            (os.POSIX_SPAWN_DUP2, source.fileno(), number) for number, source in enumerate((nothing, log, log))
        ]
        # What the caller left open, such as a lock, must not live as long as the daemon.
        closed = [(os.POSIX_SPAWN_CLOSE, number) for number in _inheritable()]
        pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[*redirects, *closed], setsid=True)
    started = start_time(pid)
    if started is None:
        raise StepError(f"{component.name} ended at once", log=state.log(component.name))
    (state.pids / component.name).write_text(f"{pid} {started}\n")
    return pid


def _inheritable() -> list[int]:
    """Open file descriptors, beside the standard ones, that a child would get."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        number = int(link.name)
        with suppress(OSError):  # The listing's own is closed by now.
            if number > 2 and os.get_inheritable(number):
                found.append(number)
    return found


def stop(state: StateFolder, name: str, *, grace: float = 10) -> bool:
    """End the component: SIGTERM, and SIGKILL after `grace` seconds. False when it was not running."""
    pid = running_pid(state, name)
    if pid is not None:
        end(pid, grace=grace)
    (state.pids / name).unlink(missing_ok=True)
    return pid is not None


def end(pid: int, *, grace: float) -> None:
    """End one process and wait until it is gone; reaps it when it is our own child."""
    started = start_time(pid)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        while time.monotonic() < deadline:
            _reap(pid)
            if start_time(pid) != started or started is None:
                return
            time.sleep(0.02)
    _reap(pid)


def processes_with(arguments: Sequence[str]) -> list[int]:
    """Ids of the processes whose command line holds all of `arguments`, in this order and side by side."""
    needle = b"\0" + b"\0".join(argument.encode() for argument in arguments) + b"\0"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if needle in command:
            found.append(int(entry.name))
    return found


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
