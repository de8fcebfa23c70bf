"""The operator dies at random moments; the end is that of an undisturbed run."""

import random
import time
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import SYSTEM, Service, items, kubectl, until
from e2e.traffic import post

if TYPE_CHECKING:
    from e2e.conftest import Maker

KILLS = 5


def kill_operator() -> None:
    kubectl(
        "delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator",
        "--grace-period=0", "--force", "--wait=false",
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_the_end_is_the_same(make: "Maker") -> None:
    """Creates, an update and a deletion of three services, with a kill in the midst of each."""
    moments = random.Random(7)
    left, updated, gone = make("left"), make("updated"), make("gone")
    for kill in range(KILLS):
        time.sleep(moments.uniform(0.2, 4.0))
        kill_operator()
        if kill == 1:
            updated.patch(requestTimeout="20m")
        if kill == 3:
            kubectl("delete", "modelservice", gone.name, "-n", gone.namespace, "--wait=false")
    for service in (left, updated):
        service.settled(within=300)
        status, answer = post(make.url(service), {"model": service.model, "prompt": "The", "max_tokens": 2})
        assert status == 200, answer
    until("the deleted service to be gone", lambda: _absent(gone), within=60)
    revisions = items("controllerrevisions", make.namespace, "modelyard.dev/managed=true")
    kept = {(r["metadata"]["labels"]["modelyard.dev/service"], r["metadata"]["annotations"]["modelyard.dev/phase"])
            for r in revisions}  # fmt: skip
    assert kept == {("left", "Active"), ("updated", "Active")}
    assert len(revisions) == 2
    status, answer = post(make.url(gone), {"model": gone.model, "prompt": "The", "max_tokens": 2})
    assert status == 404, answer


def _absent(service: Service) -> bool:
    return not any(i["metadata"]["name"] == service.name for i in items("modelservices", service.namespace))
