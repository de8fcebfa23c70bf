"""What the operator asks of a gateway."""

from typing import Protocol


class GatewayClient(Protocol):
    """Asks gateways which route document they have applied."""

    async def applied_version(self, address: str) -> str | None:
        """The version in effect at the gateway pod with this IP; None where it does not say within 2 s."""
