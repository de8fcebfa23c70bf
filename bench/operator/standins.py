"""One process with all the stand-ins: `python -m bench.operator.standins KUBECONFIG`."""

import asyncio
import sys
from pathlib import Path

from aiohttp import web
from bench.operator.gateways import FakeGateways
from bench.operator.kube_api import all_of, connected
from bench.operator.ray import FakeRay

from modelyard_gateway.routes import STATUS_PORT
from modelyard_operator.desired.names import DASHBOARD_PORT, SERVE_PORT

CONTROL_PORT = 8405


async def main(kubeconfig: Path) -> None:
    """Serve until killed."""
    async with connected(kubeconfig) as api:
        ray, gateways = FakeRay(api), FakeGateways(api)

        async def told(_: web.Request) -> web.Response:
            return web.json_response({"puts": ray.puts, "counts": ray.counts})

        app = web.Application(client_max_size=2**26)
        app.add_routes([*ray.routes(), *gateways.routes(), web.get("/told", told)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        for port in (DASHBOARD_PORT, SERVE_PORT, STATUS_PORT, CONTROL_PORT):
            await web.TCPSite(runner, "0.0.0.0", port, backlog=4096).start()
        await gateways.start()
        await all_of((ray.follow(), gateways.follow()))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
