"""The agents' status over HTTP."""

import ipaddress

import aiohttp

from modelyard_gateway.routes import STATUS_PORT

TIMEOUT_S = 2.0


class HttpGatewayClient:
    """Asks gateways for their version; see `gateway.client.GatewayClient` for the contract."""

    def __init__(self, session: aiohttp.ClientSession, port: int = STATUS_PORT) -> None:
        self._session = session
        self._port = port

    async def applied_version(self, address: str) -> str | None:
        host = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self._session.get(f"http://{host}:{self._port}/status", timeout=timeout) as answer:
                if answer.status != 200:
                    return None
                body = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
        version = body.get("version") if isinstance(body, dict) else None
        return version if isinstance(version, str) else None
