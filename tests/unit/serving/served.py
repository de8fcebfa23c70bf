"""A replica behind a real HTTP server on loopback, for clients that bring their own sockets."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from tests.unit.serving.tiny import config_for

from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica

BASE = "/team-a/tiny"
"""Below which the service answers, as it does behind the gateway."""


@contextmanager
def served(folder: Path, **changes: Any) -> Iterator[str]:
    """Serve the model in `folder` as team-a/tiny; gives the address, `127.0.0.1:PORT/team-a/tiny`."""
    replica = Replica(Journal.open())
    asyncio.run(replica.configure(config_for(folder, **changes)))

    async def below_base(scope: Scope, receive: Receive, send: Send) -> None:
        await replica({**scope, "root_path": BASE}, receive, send)

    server = uvicorn.Server(uvicorn.Config(below_base, host="127.0.0.1", port=0, lifespan="off", log_level="error"))
    up = threading.Event()

    async def serve() -> None:
        config = server.config
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        up.set()
        await server.main_loop()
        await server.shutdown()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert up.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}{BASE}"
    finally:
        server.should_exit = True
        thread.join(30)
        replica.close()
