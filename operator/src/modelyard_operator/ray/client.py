"""What the operator asks of a Ray cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelyard_operator.observed.downloads import Download


class RayError(Exception):
    """A request to Ray that failed."""


class ServeUnreachable(RayError):
    """No answer from the head, or one that says that Ray's control store is down."""


class ConfigRefused(RayError):
    """Ray refuses the Serve config; the message is Ray's own."""


class ServeClient(Protocol):
    """The Serve REST API of one Ray cluster (Ray 2.60, dashboard/modules/serve/serve_head.py)."""

    async def details(self) -> Mapping[str, Any]:
        """`GET /api/serve/applications/`; nobody may change it. Raises ServeUnreachable."""

    async def put(self, config: Mapping[str, Any]) -> None:
        """`PUT /api/serve/applications/`: replaces everything. Raises ConfigRefused, ServeUnreachable."""


class ServeClients(Protocol):
    """Makes clients; connections are shared and closed by whoever made this."""

    def client(self, address: str, token: str) -> ServeClient:
        """For the dashboard at `http://<address>`, with the cluster's token."""


@dataclass(frozen=True)
class Proof:
    """What came of asking a revision for a real inference."""

    ok: bool
    message: str
    seconds: float = 0.0
    ledger: Mapping[str, float] | None = None
    """The replica's own start times by phase in seconds, as it reports them (imports, load, warmup)."""


class Prober(Protocol):
    """Asks a revision for a real inference, on the way that the gateway's requests take, or its pods how far it is."""

    async def prove(self, address: str, prefix: str, *, timeout_s: float) -> Proof:
        """`GET http://<address><prefix>/-/prove`; never raises for a revision that fails."""

    async def download(self, address: str, service: str, revision: str) -> Download | None:
        """How far the download is, by `GET http://<address>/metrics`; None where the pod does not tell, or fails."""
