"""How a worker pod leaves: Ray Serve starts its replicas elsewhere, and its requests end, before its processes do.

Kubernetes runs this as the pod's preStop hook (`python -P -m modelyard_serving.departure`) when the pod is evicted or
deleted, and sends its signal only afterwards. The hook tells Ray that the node drains. Serve then starts a replica
elsewhere for each one here, stops sending requests here, and lets those under way finish, each for as long as its
service's requestTimeout. The raylet ends by itself once nothing runs on it.

While the head cannot be asked the node is kept for its requests, and ended once it has none: a RayCluster that is
deleted loses its head first, and nothing will ever tell its workers.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_LOOK_S = 1.0
_HEAD_AWAY_S = 20.0
"""A head that is away for longer may be gone for good; with high availability another takes over in about 30 s."""
_ASK_S = 60.0
"""How long one request to drain may take: it starts Python and Ray anew."""
_REPLICA_PORTS = range(30000, 31001)
"""Ray Serve's direct ingress, RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT and _MAX_."""
_ESTABLISHED = "01"


@dataclass(frozen=True)
class Raylet:
    """The process that makes the pod a node of Ray."""

    pid: int
    node_id: str


class Node(Protocol):
    """What a departure sees and does."""

    def raylet(self) -> Raylet | None:
        """The raylet, while it runs."""

    def head_answers(self) -> bool:
        """Whether the head takes connections."""

    def ask_to_drain(self, raylet: Raylet) -> bool:
        """Tell the head that the node drains; whether it agreed."""

    def requests(self) -> int:
        """Requests under way on this node."""

    def end(self, raylet: Raylet) -> None:
        """End the raylet, and with it the container."""


def depart(node: Node, *, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """Return when the node may go. Kubernetes bounds this with the pod's terminationGracePeriodSeconds."""
    asked = False
    away_since: float | None = None
    while (raylet := node.raylet()) is not None:
        if node.head_answers():
            away_since = None
            asked = asked or node.ask_to_drain(raylet)
        else:
            asked = False  # A head that comes back may have forgotten.
            away_since = clock() if away_since is None else away_since
            if clock() - away_since >= _HEAD_AWAY_S and node.requests() == 0:
                node.end(raylet)
                return
        sleep(_LOOK_S)


@dataclass(frozen=True)
class RayNode:
    """The node that this process runs on."""

    head: str
    """Host and port of the head's GCS."""
    serve_port: int
    within_s: int
    """How long replicas may take to find another place and finish."""
    proc: Path = Path("/proc")

    def raylet(self) -> Raylet | None:
        """From the process table: the container runs at most one."""
        for folder in self.proc.glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # It has ended.
                continue
            if Path(words[0]).name == "raylet":
                options = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
                return Raylet(int(folder.name), options.get("node_id") or options.get("node-id", ""))
        return None

    def head_answers(self) -> bool:
        """Over TCP only: Ray's own client ends its process when it cannot connect."""
        host, _, port = self.head.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=2):
                return True
        except OSError:
            return False

    def ask_to_drain(self, raylet: Raylet) -> bool:
        """By Ray's command, in a process of its own."""
        command = [
            "ray", "drain-node", "--address", self.head, "--node-id", raylet.node_id,
            "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "The pod is going.",
            "--deadline-remaining-seconds", str(self.within_s),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=_ASK_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def requests(self) -> int:
        """Connections to Serve's proxy and to the replicas: one for each request, and kept ones for some seconds."""
        return sum(port == self.serve_port or port in _REPLICA_PORTS for port in self._connected_ports())

    def _connected_ports(self) -> Iterator[int]:
        for name in ("tcp", "tcp6"):
            try:
                lines = (self.proc / "net" / name).read_text().splitlines()[1:]
            except OSError:
                continue
            for _, local, _, state, *_ in map(str.split, lines):
                if state == _ESTABLISHED:
                    yield int(local.rpartition(":")[2], 16)

    def end(self, raylet: Raylet) -> None:
        """`ray start --block`, the container's first process, ends with it."""
        os.kill(raylet.pid, signal.SIGTERM)


def main(arguments: list[str]) -> None:
    """`departure SERVE_PORT SECONDS`, with the head in RAY_ADDRESS as KubeRay sets it."""
    serve_port, within_s = map(int, arguments)
    node = RayNode(head=os.environ["RAY_ADDRESS"], serve_port=serve_port, within_s=within_s)
    depart(node, clock=time.monotonic, sleep=time.sleep)


if __name__ == "__main__":
    main(sys.argv[1:])
