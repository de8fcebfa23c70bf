"""A process measured from outside: what it uses as the kernel counts it, what it asks as the API server counts it."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_TICKS = os.sysconf("SC_CLK_TCK")


class Measured:
    """A process of the bench."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        with log.open("ab") as stream:
            # Ends with the bench, however that one ends.
            bound = ["setpriv", "--pdeathsig", "KILL", "--", *command]
            self._process = subprocess.Popen(bound, stdout=stream, stderr=stream, env={**os.environ, **environment})
        self.log = log

    def check(self) -> None:
        """RuntimeError with the end of its log where it has ended."""
        if self._process.poll() is not None:
            end = "\n".join(self.log.read_text().splitlines()[-15:])
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.returncode}:\n{end}")

    def cpu_s(self) -> float:
        """Seconds of CPU that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self, *, peak: bool = False) -> float:
        """Megabytes of memory that it holds now, or at most held."""
        name = "VmHWM:" if peak else "VmRSS:"
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1000

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        self._process.terminate()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Request:
    """A request as the audit log has it."""

    at: float
    """When the API server took it, in seconds since 1970."""
    verb: str
    resource: str
    namespace: str
    name: str

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES


class Audit:
    """The API server's audit log, read on as it grows, for one user. Leases are not in it (see hack's policy)."""

    def __init__(self, log: Path, user: str) -> None:
        self._log = log
        self._needle = json.dumps({"username": user})[1:-1].replace(": ", ":").encode()
        self._offset = 0
        self._rest = b""
        self.requests: list[Request] = []

    def read(self) -> list[Request]:
        """What came since the last time; `requests` has all."""
        with self._log.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        new = [_request(json.loads(line)) for line in lines if self._needle in line]
        self.requests += new
        return new

    def since(self, at: float) -> list[Request]:
        """All requests from a moment on."""
        self.read()
        return [request for request in self.requests if request.at >= at]


def _request(entry: Mapping[str, object]) -> Request:
    about = entry.get("objectRef")
    named = about if isinstance(about, dict) else {}
    resource = "/".join(part for part in (named.get("resource", ""), named.get("subresource", "")) if part)
    at = datetime.fromisoformat(str(entry["requestReceivedTimestamp"])).timestamp()
    return Request(at, str(entry["verb"]), resource, named.get("namespace", ""), named.get("name", ""))
