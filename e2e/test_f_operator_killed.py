"""The operator dies at random moments; the end is that of an undisturbed run."""

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import SYSTEM, Service, items, kubectl, until
from e2e.traffic import Load, post

if TYPE_CHECKING:
    from e2e.conftest import Maker

KILLS = 10


def kill_operator() -> None:
    kubectl(
        "delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator",
        "--grace-period=0", "--force", "--wait=false",
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_the_end_is_the_same(make: "Maker") -> None:
    """Five services are made, updated, scaled and deleted, and the operator is killed ten times meanwhile."""
    moments = random.Random(7)
    left, updated, scaled, gone = make("left"), make("updated"), make("scaled"), make("gone")
    left.wait(within=180)
    changes: dict[int, Callable[[], object]] = {
        2: lambda: updated.patch(requestTimeout="20m"),
        4: lambda: kubectl("scale", "modelservice", scaled.name, "-n", scaled.namespace, "--replicas=2"),
        6: lambda: kubectl("delete", "modelservice", gone.name, "-n", gone.namespace, "--wait=false"),
        7: lambda: make("late"),
    }
    body = {"model": left.model, "prompt": "The", "max_tokens": 2, "temperature": 0}
    with Load(make.url(left), body) as load:
        for kill in range(KILLS):
            changes.get(kill, lambda: None)()
            time.sleep(moments.uniform(0.2, 6.0))
            kill_operator()
    assert load.failures == []
    kept = (left, updated, scaled, Service(make.namespace, "late"))
    for service in kept:
        service.settled(within=300)
        status, answer = post(make.url(service), {"model": service.model, "prompt": "The", "max_tokens": 2})
        assert status == 200, answer
    until("the second replica", lambda: scaled.status.get("replicas") == 2, within=120)
    until("the deleted service to be gone", lambda: _absent(gone), within=60)
    revisions = items("controllerrevisions", make.namespace, "modelyard.dev/managed=true")
    phases = sorted(
        (r["metadata"]["labels"]["modelyard.dev/service"], r["metadata"]["annotations"]["modelyard.dev/phase"])
        for r in revisions
    )
    assert phases == sorted((service.name, "Active") for service in kept)
    status, answer = post(make.url(gone), {"model": gone.model, "prompt": "The", "max_tokens": 2})
    assert status == 404, answer


def _absent(service: Service) -> bool:
    return not any(i["metadata"]["name"] == service.name for i in items("modelservices", service.namespace))
