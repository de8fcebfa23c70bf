"""Which server of HAProxy stands for which Ray pod.

A backend has more servers ("slots") than pods, so that pods come and go over the runtime API, without reload.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from modelyard_gateway.routes import Backend

FEWEST_WORKERS = 8
"""Slots for workers that every backend starts with; the next power of two when they do not suffice."""


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where a server sends its requests."""

    address: str
    port: int


Slots = Mapping[str, Endpoint | None]
"""The servers of one backend by name, `w1`... for workers and `h1`... for backups; None is a free slot."""
Placement = Mapping[str, Slots]
"""The slots of each backend."""


def place(backends: tuple[Backend, ...], current: Placement) -> Placement:
    """Give each server of the document a slot; one that has a slot keeps it."""
    placement = {}
    for backend in sorted(backends, key=lambda backend: backend.name):
        slots = current.get(backend.name, {})
        workers = {_endpoint(s.address, s.port) for s in backend.servers if not s.backup}
        heads = {_endpoint(s.address, s.port) for s in backend.servers if s.backup} - workers
        placement[backend.name] = {
            **_fill("w", slots, workers, least=FEWEST_WORKERS),
            **_fill("h", slots, heads, least=1),
        }
    return placement


def same_shape(one: Placement, other: Placement) -> bool:
    """Whether HAProxy can go from one to the other without a reload: same backends, same slots."""
    return {name: set(slots) for name, slots in one.items()} == {name: set(slots) for name, slots in other.items()}


def slots_by_server(backend: Backend, slots: Slots) -> dict[str, str]:
    """Of each server of the document that has a slot, by its name."""
    taken = {endpoint: slot for slot, endpoint in slots.items() if endpoint is not None}
    endpoints = {server.name: _endpoint(server.address, server.port) for server in backend.servers}
    return {name: taken[endpoint] for name, endpoint in endpoints.items() if endpoint in taken}


def _endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(address=str(ipaddress.ip_address(address)), port=port)


def _fill(kind: str, current: Slots, wanted: set[Endpoint], *, least: int) -> dict[str, Endpoint | None]:
    slots = {name: endpoint for name, endpoint in current.items() if name.startswith(kind)}
    size = max(least, len(slots))
    while size < len(wanted):
        size *= 2
    filled: dict[str, Endpoint | None] = {}
    missing = set(wanted)
    for name in (f"{kind}{number}" for number in range(1, size + 1)):
        endpoint = slots.get(name)
        filled[name] = endpoint if endpoint in missing else None
        missing -= {filled[name]} - {None}
    # Slots that were free come first: one that has just lost its server may still have streams on it.
    free = [name for name, endpoint in filled.items() if endpoint is None]
    free.sort(key=lambda name: slots.get(name) is not None)
    return filled | dict(zip(free, sorted(missing), strict=False))
