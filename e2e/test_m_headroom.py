"""A pool with one worker: an update waits with numbers until there is room, or takes the place of what serves."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import SYSTEM, get, kubectl, make_pool, until
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.cluster import Service
    from e2e.conftest import Maker

BODY = {"prompt": "The", "max_tokens": 2, "temperature": 0}


def tight_pool(workers: int) -> None:
    make_pool("tight", maxWorkers=workers)


@pytest.fixture
def pool(platform: str) -> Iterator[None]:
    tight_pool(1)
    yield
    kubectl("delete", "quota", "tight", "-n", SYSTEM, "--ignore-not-found")
    kubectl("delete", "apool", "tight", "--ignore-not-found")


def replaced(service: "Service", first: str) -> dict[str, Any]:
    """Until another revision than `first` serves alone."""
    until("another revision", lambda: service.status.get("activeRevision") not in (None, first), within=120)
    return service.settled(within=60)


def told(service: "Service", *words: str) -> str:
    """Until the operator says why it waits, with these words."""

    def look() -> str | None:
        found = service.condition("Progressing")
        text = str(found.get("message", ""))
        return text if found.get("reason") == "NoHeadroom" and all(word in text for word in words) else None

    return until(f"NoHeadroom with {words}", look, within=30)


@pytest.mark.timeout(400)
def test_an_update_that_does_not_fit(make: "Maker", pool: None) -> None:
    service = make("squeezed", accelerator={"pool": "tight"})
    service.wait(within=180)
    first = service.status["activeRevision"]
    with Load(make.url(service), {**BODY, "model": service.model}, clients=4) as load:
        service.patch(requestTimeout="30m")
        print(told(service, "1 more worker tight/small", "AcceleratorPool tight has 1 of 1 workers in use"))
        print(json.dumps(service.status["plan"]))
        assert service.condition("Ready")["status"] == "True"
        # The pool may grow, the namespace may not.
        kubectl("create", "quota", "tight", "-n", SYSTEM, "--hard=pods=1")
        until("the quota to be counted", lambda: (get("quota", "tight", SYSTEM) or {})["status"].get("used"), within=20)
        tight_pool(2)
        print(told(service, "ResourceQuota tight leaves pods 0 of 1"))
        assert service.status["activeRevision"] == first
        kubectl("delete", "quota", "tight", "-n", SYSTEM)
        replaced(service, first)
    assert load.failures == [], "an update that waits for room costs nothing"
    second = service.status["activeRevision"]

    tight_pool(1)
    seen: set[str] = set()
    with Load(make.url(service), {**BODY, "model": service.model}, clients=4) as load:
        service.patch(requestTimeout="20m", rollout={"onNoHeadroom": "Replace"})

        def switched() -> bool:
            seen.update(condition["reason"] for condition in service.status["conditions"])
            return service.status.get("activeRevision") not in (None, second)

        until("the new revision in the old one's place", switched, within=120)
        answered = load.statuses[200]
        until("answers", lambda: load.statuses[200] > answered + 10, within=30)
    assert set(load.statuses) <= {200, 503}, load.failures[-1]
    assert all("Replacing" in failure for failure in load.failures), load.failures[-1]
    assert load.failures, "one worker cannot serve two revisions"
    assert "Replacing" in seen
    print(f"the place was taken: {dict(load.statuses)}, seen {sorted(seen)}, {service.settled(within=60)['coldStart']}")
