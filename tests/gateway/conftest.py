import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.gateway.world import Gateway, RayNode, StartNode, running_gateway


@pytest.fixture
def state_dir() -> Iterator[Path]:
    # pytest's own folders have longer names than a unix socket may have.
    path = Path(tempfile.mkdtemp(prefix="gw-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def gateway(state_dir: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(state_dir) as gateway:
        yield gateway


@pytest.fixture
async def node() -> AsyncIterator[StartNode]:
    started: list[RayNode] = []

    async def start(name: str) -> RayNode:
        started.append(await RayNode(name).start())
        return started[-1]

    yield start
    for each in started:
        each.released.set()
        await each.stop()
