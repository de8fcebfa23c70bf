"""HAProxy's configuration and map for a route document: text out of values, nothing else.

What can change while HAProxy runs (servers in their slots, entries of the map) is written here only as the
state to start from; `changes` says how a running HAProxy gets there. What to do with a service's requests is
one value of the map, so that backend, prefix, timeout and own servers change at once.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from modelyard_gateway.placement import Placement, Slots, slots_by_server
from modelyard_gateway.routes import Refusal, Route, RouteDocument

LONGEST_REQUEST_H = 24
"""Hours: the ceiling of `Route.timeout_s`."""
HANDOVER_BACKEND = "handover"
"""Where a worker that a reload has replaced sends the requests that kept connections still bring."""
LAST_WORKER = "."
"""Key in the map of a worker that stops without a successor; no path of a service has it."""
_LONGEST_MESSAGE = 2000


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the configuration stands on, whatever the document."""

    state_dir: Path
    listen_port: int
    threads: int
    max_connections: int

    @property
    def config_file(self) -> Path:
        """The configuration file."""
        return self.state_dir / "haproxy.cfg"

    @property
    def map_file(self) -> Path:
        """The map of routes; its path is also its name in the runtime API."""
        return self.state_dir / "routes.map"

    @property
    def runtime_socket(self) -> Path:
        """The command line of HAProxy's master, and through it of its workers."""
        return self.state_dir / "master.sock"

    @property
    def metrics_socket(self) -> Path:
        """Where HAProxy's Prometheus exporter answers."""
        return self.state_dir / "metrics.sock"

    @property
    def handover_socket(self) -> Path:
        """Where the newest worker takes requests that reached an older one."""
        return self.state_dir / "handover.sock"


def map_entries(document: RouteDocument, placement: Placement) -> dict[str, str]:
    """What to do with the requests of each `<namespace>/<name>`, in fields divided by `|`.

    `route|<backend>|<prefix>|<timeout in ms>|<revision>`, where the service has servers of its own with
    `|<how many>|<their slots, twice, divided by colons>`; twice, so that one can begin with any of them.
    Or `refusal|<body of the answer in base64>`: base64, since a message is any text and the runtime API is made of
    lines and words.
    """
    slots = {each.name: slots_by_server(each, placement.get(each.name, {})) for each in document.backends}
    routes = {route.path[1:]: _route_entry(route, slots[route.backend]) for route in document.routes}
    refusals = {refusal.path[1:]: _refusal_entry(refusal) for refusal in document.refusals}
    return dict(sorted({**routes, **refusals}.items()))


def render_map(document: RouteDocument, placement: Placement) -> str:
    """The map file."""
    return "".join(f"{key} {value}\n" for key, value in map_entries(document, placement).items())


def render(placement: Placement, ground: Ground) -> str:
    """The configuration file with these servers."""
    text = _template("haproxy")
    values = {
        "threads": ground.threads,
        "max_connections": ground.max_connections,
        "longest_h": LONGEST_REQUEST_H,
        "hard_stop_h": LONGEST_REQUEST_H + 1,
        "port": ground.listen_port,
        "last_worker": LAST_WORKER,
        "map": ground.map_file,
        "handover": ground.handover_socket,
        "metrics": ground.metrics_socket,
        "errors": "\n".join(_http_errors()),
        "unknown": _error_body(_UNKNOWN, kind=_INVALID, code="service_not_found"),
        "internal": _error_body("There is nothing at this path.", kind=_INVALID, code="not_found"),
        "ambiguous": _error_body(_AMBIGUOUS, kind=_INVALID, code="ambiguous_path"),
    }
    for name, value in values.items():
        text = text.replace(f"<{name}>", str(value))
    return text + "".join("\n" + _backend(name, slots) for name, slots in placement.items())


def _route_entry(route: Route, slots: Mapping[str, str]) -> str:
    revision = route.prefix.rpartition("/")[2]
    entry = f"route|{route.backend}|{route.prefix}|{route.timeout_s * 1000}|{revision}"
    own = [slots[name] for name in route.servers if name in slots]
    return f"{entry}|{len(own)}|{':'.join(own * 2)}" if own else entry


def _refusal_entry(refusal: Refusal) -> str:
    message = refusal.message
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "..."
    body = _error_body(message, kind="service_unavailable", code=refusal.reason)
    return f"refusal|{base64.b64encode(body.encode()).decode()}"


def _error_body(message: str, *, kind: str, code: str) -> str:
    """An error in OpenAI's shape."""
    return json.dumps({"error": {"message": message, "type": kind, "code": code}})


def _backend(name: str, slots: Slots) -> str:
    servers = []
    for slot, endpoint in slots.items():
        where = f"{_host(endpoint.address)}:{endpoint.port}" if endpoint else "127.0.0.1:1 disabled"
        servers.append(f"    server {slot} {where}{' backup' if slot.startswith('h') else ''}\n")
    return f"backend {name}\n{_template('backend')}{''.join(servers)}"


@cache
def _template(name: str) -> str:
    return files(__package__).joinpath(f"{name}.template.cfg").read_text()


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _http_errors() -> Iterator[str]:
    """Answers that HAProxy gives by itself, in JSON."""
    for status, kind, code, message in _ERRORS:
        # Only 503 passes by waiting.
        retry = " hdr Retry-After 2" if status == 503 else ""
        body = _error_body(message, kind=kind, code=code)
        yield f"    http-error status {status} content-type application/json string '{body}'{retry}"


_UNKNOWN = (
    "No model service answers at /%[var(txn.service),bytes(0,200),json(utf8s)]: "
    "the path of a request begins with /NAMESPACE/NAME of a ModelService."
)
"""A log format of HAProxy."""
_AMBIGUOUS = (
    "The path has an empty or dotted segment, a backslash, a control character, or one of these encoded twice: "
    "write it plainly."
)
_INVALID = "invalid_request_error"
_ERRORS = (
    (500, "server_error", "gateway_error", "The gateway failed on this request."),
    (502, "server_error", "bad_gateway", "The service closed the connection without a whole answer."),
    (503, "service_unavailable", "no_server", "No Ray node of this service answers now. Try again."),
    (504, "server_error", "timeout", "The service did not answer within its requestTimeout."),
)
"""Not 400 and 408: what HAProxy cannot parse it answers in its own text, before any rule of ours."""
