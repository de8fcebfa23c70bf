"""A new revision takes over under load, and nobody notices."""

from typing import TYPE_CHECKING

import pytest
from e2e.cluster import until
from e2e.traffic import Load, Stream

if TYPE_CHECKING:
    from e2e.conftest import Maker


@pytest.mark.timeout(600)
def test_new_revision_under_load(make: "Maker") -> None:
    """Three replicas on three workers, eight clients, and one long stream on another service all the while."""
    service, other = make("rolled", replicas=3), make("steady", "pvc://models/smollm2")
    first = service.wait(within=300) and service.status["activeRevision"]
    other.wait(within=300)
    # SmolLM2 counts on for thousands of tokens.
    long = {"model": other.model, "prompt": "1 2 3 4 5 6 7 8 9 10 11 12 13", "max_tokens": 6000, "temperature": 0}
    body = {"model": service.model, "prompt": "The", "max_tokens": 2, "temperature": 0}
    seen: set[str] = set()
    with Stream(make.url(other), long) as stream, Load(make.url(service), body) as load:
        until("the stream", lambda: stream.events > 5, within=60)
        until("some traffic", lambda: load.count > 20, within=60)
        service.patch(requestTimeout="30m")

        def switched() -> bool:
            status = service.status
            seen.update(c["reason"] for c in status["conditions"] if c["type"] == "Progressing")
            revisions = [r["name"] for r in status["revisions"]]
            return status["activeRevision"] != first and len(revisions) == 1

        until("the new revision alone", switched, within=400)
        after = load.count
        until("traffic on the new revision", lambda: load.count > after + 50, within=60)
    assert load.failures == []
    assert stream.lasted, stream.error
    assert seen & {"LoadingModel", "WaitingForWorker", "PullingImage"}
    assert "Draining" in seen
    print(f"{load.count} requests, slowest {load.slowest_s:.2f} s; {stream.events} events of the stream; steps {seen}")
