"""What a gateway is told from outside: environment variables, read once by `__main__`."""

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard_gateway.routes import LISTEN_PORT, STATUS_PORT

PREFIX = "MODELYARD_GATEWAY_"
_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LONGEST_SOCKET_PATH = 80
"""A unix socket's path ends at 107 characters, and HAProxy appends its own suffix while it binds."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one gateway."""

    state_dir: Path
    """All that is written: sockets, HAProxy's configuration and map, the last good route document."""
    haproxy: Path
    """The HAProxy binary."""
    namespace: str | None = None
    """Where the ConfigMap of routes is. None with `routes_file`."""
    routes_file: Path | None = None
    """Read the route document from this file instead of from Kubernetes."""
    listen_port: int = LISTEN_PORT
    """Applications come in here."""
    status_port: int = STATUS_PORT
    """The agent's own HTTP port."""
    threads: int = 2
    """Threads of HAProxy. One carries over 10,000 requests per second."""
    max_connections: int = 4096
    """Most client connections at once; each holds two file descriptors and up to about 40 kB."""
    drain_delay_s: float = 5.0
    """Seconds between SIGTERM and the end of new connections: Kubernetes needs them to take the pod out."""


def settings_from(environment: Mapping[str, str], *, haproxy: Path) -> Settings:
    """Read the settings from `MODELYARD_GATEWAY_*`.

    Raises:
        ValueError: a variable is unknown or has a value that cannot be; the message names it.
    """
    given = {key.removeprefix(PREFIX): value for key, value in environment.items() if key.startswith(PREFIX)}
    routes_file = given.pop("ROUTES_FILE", "")
    settings = Settings(
        state_dir=Path(given.pop("STATE_DIR", "/var/lib/modelyard-gateway")),
        haproxy=haproxy,
        routes_file=Path(routes_file) if routes_file else None,
        namespace=None if routes_file else given.pop("NAMESPACE", "") or _own_namespace(),
        listen_port=_whole(given, "LISTEN_PORT", LISTEN_PORT, most=65535),
        status_port=_whole(given, "STATUS_PORT", STATUS_PORT, most=65535),
        threads=_whole(given, "THREADS", min(4, len(os.sched_getaffinity(0))), most=64),
        max_connections=_whole(given, "MAX_CONNECTIONS", 4096, most=500_000),
        drain_delay_s=_whole(given, "DRAIN_DELAY_SECONDS", 5, least=0, most=600),
    )
    given.pop("NAMESPACE", None)
    if given:
        raise ValueError(f"unknown variable {PREFIX}{min(given)}")
    if len(str(settings.state_dir)) > _LONGEST_SOCKET_PATH:
        raise ValueError(
            f"{PREFIX}STATE_DIR is longer than {_LONGEST_SOCKET_PATH} characters: no room for a unix socket"
        )
    _check_file_descriptors(settings.max_connections)
    return settings


def _whole(given: dict[str, str], name: str, default: int, *, least: int = 1, most: int) -> int:
    text = given.pop(name, "")
    if not text:
        return default
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ValueError(f"{PREFIX}{name} is {text!r}: give a whole number from {least} to {most}")
    return int(text)


def _own_namespace() -> str:
    if not _SERVICE_ACCOUNT_NAMESPACE.is_file():
        raise ValueError(f"{PREFIX}NAMESPACE is not set: give the operator's namespace, or {PREFIX}ROUTES_FILE")
    return _SERVICE_ACCOUNT_NAMESPACE.read_text().strip()


def _check_file_descriptors(max_connections: int) -> None:
    needed = 2 * max_connections + 512
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard not in (resource.RLIM_INFINITY, -1) and hard < needed:
        raise ValueError(
            f"{PREFIX}MAX_CONNECTIONS is {max_connections}, which needs {needed} open files, "
            f"but the limit is {hard}: lower it or raise the container's limit"
        )
