"""The route document: what the operator publishes and every gateway applies.

The document is whole and versioned by its content, so that an agent can apply it without knowing the one
before, and "this gateway has it" is one comparison.
"""

import hashlib
import ipaddress
import json
from collections import Counter

from pydantic import BaseModel, ConfigDict, Field

CONFIG_MAP = "modelyard-routes"
CONFIG_MAP_KEY = "routes.json"
STATUS_PORT = 8404
"""Port of the agent: `GET /status` (`{"version": ...}`), `GET /healthz`, `GET /metrics`."""
LISTEN_PORT = 8000
"""Port on which the gateway answers applications."""
SCHEMA = 2
"""The newest schema of the document that is read; in 1 a route has no `servers`."""
SCHEMA_ANNOTATION = "modelyard.dev/route-schema"
"""The newest schema that a gateway's pod reads; 1 where it does not say."""
MOST_OWN_SERVERS = 64
"""Of one route."""

_PATH = r"^/[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9.-]*$"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(_Document):
    """One Ray pod that answers on its Serve port."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="The pod's name.")
    address: str = Field(pattern=r"^[0-9a-f.:]+$", description="The pod's IP address, version 4 or 6.")
    port: int = Field(default=8000, ge=1, le=65535)
    backup: bool = Field(default=False, description="The Ray head: asked only when no worker can be.")


class Backend(_Document):
    """One RayCluster."""

    name: str = Field(pattern=r"^[a-z0-9-]+\.[a-z0-9][a-z0-9.-]*$", description="`<namespace>.<raycluster>`.")
    servers: tuple[Server, ...] = ()


class Route(_Document):
    """A public path prefix and where it leads now."""

    path: str = Field(pattern=_PATH, description="`/<namespace>/<name>`.")
    backend: str = Field(description="Name of a backend of this document.")
    prefix: str = Field(
        pattern=r"^/_r(/[a-z0-9][a-z0-9.-]*){3}$",
        description="The active revision's prefix, put in place of `path`.",
    )
    timeout_s: int = Field(default=3600, ge=1, le=24 * 3600, description="Seconds that a request may take.")
    servers: tuple[str, ...] = Field(
        default=(),
        max_length=MOST_OWN_SERVERS,
        exclude_if=lambda servers: not servers,
        description="Names of the backend's servers that are asked before all others, while one of them is up.",
    )


class Refusal(_Document):
    """A public path prefix that answers 503 and says why."""

    path: str = Field(pattern=_PATH)
    reason: str = Field(pattern=r"^[A-Z][A-Za-z]+$", description="The reason of the service's Ready condition.")
    message: str


class RouteDocument(_Document):
    """All routes of a gateway."""

    schema_version: int = Field(default=SCHEMA, ge=1, le=SCHEMA)
    backends: tuple[Backend, ...] = ()
    routes: tuple[Route, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def version(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of the canonical document."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The document as it stands in the ConfigMap, its version first."""
        return json.dumps({"version": self.version, **self.model_dump(mode="json")}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "RouteDocument":
        """Parse and check what `to_json` wrote.

        Raises:
            ValueError: not JSON, not of this schema, or its version is not that of its content.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"the route document is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise ValueError("the route document is not a JSON object")  # noqa: TRY004 - it is the text that is wrong
        claimed = data.pop("version", None)
        document = cls.model_validate(data)
        if claimed != document.version:
            raise ValueError(f"the route document says version {claimed} but its content has {document.version}")
        document.check()
        return document

    def check(self) -> None:
        """What no single field can tell.

        Raises:
            ValueError: a backend or a path is given twice, a route leads nowhere, an address is none.
        """
        known = _once("backend", [backend.name for backend in self.backends])
        _once("path", [route.path for route in self.routes] + [refusal.path for refusal in self.refusals])
        for route in self.routes:
            if route.backend not in known:
                raise ValueError(f"route {route.path} leads to backend {route.backend}, which is not in the document")
        for backend in self.backends:
            for server in backend.servers:
                try:
                    ipaddress.ip_address(server.address)
                except ValueError as error:
                    raise ValueError(f"server {server.name} of backend {backend.name}: {error}") from error


def _once(what: str, names: list[str]) -> set[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {twice[0]} is given more than once")
    return set(names)
