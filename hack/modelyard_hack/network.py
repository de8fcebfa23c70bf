"""The network namespace that the cluster lives in: it has no way out.

Addresses come from 198.18.0.0/15, which RFC 2544 reserves for benchmarks, so they shadow nobody's network.
"""

from __future__ import annotations

from pathlib import Path

from modelyard_hack.step import run

NAMESPACE = "modelyard"
NAMESPACE_PATH = Path("/run/netns") / NAMESPACE
NODE_ADDRESS = "198.18.0.1"
POD_RANGE = "198.18.128.0/17"
NODE_POD_RANGE = "198.18.128.0/24"
SERVICE_RANGE = "198.19.0.0/16"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_ADDRESS = "198.19.0.10"


def inside(*command: str) -> list[str]:
    """The command, to be run inside the namespace; keeps the mounts (and so the cgroups) of the caller."""
    return ["nsenter", f"--net={NAMESPACE_PATH}", "--", *command]


def exists() -> bool:
    return NAMESPACE_PATH.exists()


def ensure_namespace() -> None:
    """Make the namespace with loopback and the node's address.

    The node's interface is one end of a veth pair whose other end stays inside: a default route needs some
    device, and the packets that follow it end there.
    """
    if not exists():
        run(["ip", "netns", "add", NAMESPACE])
    run(inside("ip", "link", "set", "lo", "up"))
    links = run(inside("ip", "-o", "link", "show"))
    if " node0@" not in links:
        run(inside("ip", "link", "add", "node0", "type", "veth", "peer", "name", "node0peer"))
    run(inside("ip", "link", "set", "node0peer", "up"))
    run(inside("ip", "addr", "replace", f"{NODE_ADDRESS}/24", "dev", "node0"))
    run(inside("ip", "link", "set", "node0", "up"))
    run(inside("ip", "route", "replace", "default", "dev", "node0"))
    run(inside("sysctl", "-qw", "net.ipv4.ip_forward=1"))


def remove_namespace() -> None:
    if exists():
        run(["ip", "netns", "delete", NAMESPACE])
