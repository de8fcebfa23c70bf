"""Streams of three minutes on one service, while everything around it changes."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import SYSTEM, items, kubectl, until
from e2e.traffic import Stream

if TYPE_CHECKING:
    from e2e.conftest import Maker

STREAMS = 6
"""Enough that some pass through each worker's proxy and each gateway."""
LASTING_S = 180
GATEWAY = "deployment/modelyard-gateway"


@pytest.mark.extended
@pytest.mark.timeout(540)
def test_long_streams(make: "Maker") -> None:
    steady = make("steady", "pvc://models/smollm2", resources={"memory": "3Gi"})
    beside = make("beside", replicas=2)
    steady.wait(within=300)
    beside.wait(within=300)
    # SmolLM2 counts on for thousands of tokens.
    long = {"model": steady.model, "prompt": "1 2 3 4 5 6 7 8 9 10 11 12 13", "max_tokens": 8000, "temperature": 0}
    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(make.url(steady), long)) for _ in range(STREAMS)]
        until("the streams", lambda: all(stream.events > 5 for stream in streams), within=60)
        begun = time.monotonic()
        # A release: its old workers finish, and go when they have been idle.
        beside.patch(requestTimeout="30m")
        beside.settled(within=200)
        # A scale-down, and a worker that dies.
        beside.patch(replicas=1)
        until("one replica", lambda: beside.status.get("replicas") == 1, within=60)
        workers = _workers(beside.model)
        kubectl("delete", "pod", "-n", SYSTEM, workers[0], "--grace-period=0", "--force")
        # Every gateway goes, and another takes its place.
        kubectl("rollout", "restart", "-n", SYSTEM, GATEWAY)
        kubectl("rollout", "status", "-n", SYSTEM, GATEWAY, "--timeout=120s")
        beside.wait(within=120)
        # The other service goes, and its workers when they have been idle.
        beside.delete()
        until("three minutes", lambda: time.monotonic() - begun > LASTING_S, within=LASTING_S)
    assert [stream.error for stream in streams] == [None] * STREAMS
    assert all(stream.lasted for stream in streams)
    print(f"{[stream.events for stream in streams]} events in {time.monotonic() - begun:.0f} s")


def _workers(model: str) -> list[str]:
    """The worker pods that a service's only revision may run on."""
    namespace, _, name = model.partition("/")
    (revision,) = items("controllerrevisions", namespace, f"modelyard.dev/service={name}")
    group = revision["data"]["workerGroup"]["groupName"]
    return [pod["metadata"]["name"] for pod in items("pods", SYSTEM, f"ray.io/group={group}")]
