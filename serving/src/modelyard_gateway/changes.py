"""From what HAProxy does now to what a route document wants: commands, or a reload."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard_gateway.haproxy_config import map_entries
from modelyard_gateway.placement import Endpoint, Placement, Slots, place, same_shape
from modelyard_gateway.routes import RouteDocument


@dataclass(frozen=True)
class InEffect:
    """What a running HAProxy does, as it says itself."""

    entries: Mapping[str, str]
    """Entries of the map."""
    placement: Placement


@dataclass(frozen=True)
class Commands:
    """Runtime commands in the order to give them; none where the document is in effect."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Reload:
    """A new worker is needed, with these servers."""

    placement: Placement


def plan(in_effect: InEffect, document: RouteDocument, map_file: Path) -> Commands | Reload:
    """What makes the document take effect.

    Servers come before the routes that lead to them and go after the routes that led there.
    """
    wanted = place(document.backends, in_effect.placement)
    if not same_shape(in_effect.placement, wanted):
        return Reload(placement=wanted)
    arriving: list[str] = []
    leaving: list[str] = []
    for backend, slots in wanted.items():
        arriving += _arrivals(backend, in_effect.placement[backend], slots)
        leaving += _departures(backend, in_effect.placement[backend], slots)
    routes = _map_changes(in_effect.entries, map_entries(document, wanted), map_file)
    return Commands(lines=(*arriving, *routes, *leaving))


def plan_routes(in_effect: InEffect, document: RouteDocument, map_file: Path) -> Commands:
    """The part that a worker still takes when it finishes its last requests: routes, but no servers."""
    entries = map_entries(document, in_effect.placement)
    return Commands(lines=tuple(_map_changes(in_effect.entries, entries, map_file)))


def _arrivals(backend: str, now: Slots, wanted: Slots) -> Iterator[str]:
    for slot, endpoint in wanted.items():
        if endpoint is None or endpoint == now[slot]:
            continue
        if now[slot] is not None:
            yield _state(backend, slot, "maint")
        yield _address(backend, slot, endpoint)
        yield _state(backend, slot, "ready")


def _departures(backend: str, now: Slots, wanted: Slots) -> Iterator[str]:
    # Maintenance takes no new request and leaves those under way alone.
    return (_state(backend, slot, "maint") for slot in wanted if wanted[slot] is None and now[slot] is not None)


def _address(backend: str, slot: str, endpoint: Endpoint) -> str:
    return f"set server {backend}/{slot} addr {endpoint.address} port {endpoint.port}"


def _state(backend: str, slot: str, state: str) -> str:
    return f"set server {backend}/{slot} state {state}"


def _map_changes(now: Mapping[str, str], wanted: Mapping[str, str], map_file: Path) -> Iterator[str]:
    for key, value in wanted.items():
        if key not in now:
            yield f"add map {map_file} {key} {value}"
        elif now[key] != value:
            yield f"set map {map_file} {key} {value}"
    for key in now:
        if key not in wanted:
            yield f"del map {map_file} {key}"
