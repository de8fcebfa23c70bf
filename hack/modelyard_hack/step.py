"""One line per step with its time; a failed step shows the component's last log lines and what to do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TAIL_LINES = 15


class StepError(Exception):
    """A step of the build or of the cluster failed; carries what a person needs to go on.

    `log` names the file whose end explains the failure, `remedy` says what to do next.
    """

    def __init__(self, message: str, *, log: Path | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.log = log
        self.remedy = remedy

    def explain(self) -> str:
        lines = [f"failed: {self}"]
        if self.log is not None and self.log.exists():
            lines += [f"--- last lines of {self.log}", *last_lines(self.log), "---"]
        if self.remedy:
            lines.append(f"what to do: {self.remedy}")
        return "\n".join(lines)


def last_lines(log: Path, count: int = TAIL_LINES) -> list[str]:
    """The end of a log file; reads at most its last 64 kB."""
    with log.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - 65536))
        return stream.read().decode(errors="replace").splitlines()[-count:]


@contextmanager
def step(title: str, *, log: Path | None = None, remedy: str = "") -> Iterator[None]:
    """Print `title` and how long the block took; turn a failure into StepError with this log and remedy."""
    begin = time.monotonic()
    print(f"  {title} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    except StepError as failure:
        print(f" failed after {time.monotonic() - begin:.1f} s", file=sys.stderr)
        failure.log = failure.log or log
        failure.remedy = failure.remedy or remedy
        raise
    except (OSError, subprocess.SubprocessError) as error:
        print(f" failed after {time.monotonic() - begin:.1f} s", file=sys.stderr)
        raise StepError(f"{title}: {error}", log=log, remedy=remedy) from error
    print(f" {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)


def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
) -> str:
    """Run a command to its end and return its standard output.

    With `log`, both streams go to that file instead and the result is empty.
    Raises StepError with the end of the command's own output when it does not return 0.
    """
    if log is not None:
        with log.open("w") as stream:
            code = subprocess.run(
                command,
                input=stdin,
                env=env,
                cwd=cwd,
                text=True,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if code:
            raise StepError(f"{command[0]} returned {code}", log=log)
        return ""
    done = subprocess.run(command, input=stdin, env=env, cwd=cwd, text=True, capture_output=True, check=False)
    if done.returncode:
        shown = "\n".join((done.stderr or done.stdout).strip().splitlines()[-TAIL_LINES:])
        raise StepError(f"{' '.join(command[:6])} returned {done.returncode}:\n{shown}")
    return done.stdout


def wait_until(ready: Callable[[], bool], *, what: str, timeout: float, every: float = 0.1) -> None:
    """Ask `ready` every `every` seconds; raise StepError when it is not true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise StepError(f"{what} not ready within {timeout:.0f} s")
        time.sleep(every)
