"""Our replica alone under uvicorn, as a process: `python -m bench.replica PORT CONFIG`.

Behind Ray Serve the same ASGI application runs in the same kind of server; the hop in front is the same for any engine.
"""

import asyncio
import json
import sys

import uvicorn

from modelyard_serving.contract import ReplicaConfig
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica


async def serve(port: int, config: ReplicaConfig) -> None:
    """Load, then answer until the process is ended."""
    replica = Replica(Journal.open())
    await replica.configure(config)
    server = uvicorn.Server(uvicorn.Config(replica, host="127.0.0.1", port=port, log_level="error", access_log=False))
    try:
        await server.serve()
    finally:
        replica.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), ReplicaConfig.model_validate(json.loads(sys.argv[2]))))
