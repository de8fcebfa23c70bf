"""The CLI against the cluster: the same words as the status, one service's lines and numbers from all its replicas."""

import json
import re
import urllib.request
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import CLI, SYSTEM, items, run, until
from e2e.traffic import post

if TYPE_CHECKING:
    from e2e.conftest import Maker


@pytest.mark.timeout(300)
def test_get_status_logs(make: "Maker") -> None:
    service, other = make("told"), make("other")
    service.wait(within=300)
    other.wait(within=300)
    for each in (service, other):
        assert post(make.url(each), {"model": each.model, "prompt": "The", "max_tokens": 2})[0] == 200
    listed = json.loads(run(CLI, "get", "-n", service.namespace, "--output", "json"))
    assert {item["metadata"]["name"] for item in listed["items"]} == {"told", "other"}
    text = run(CLI, "status", service.name, "-n", service.namespace)
    assert service.status["activeRevision"] in text
    assert "Serving" in text
    lines = [
        json.loads(line)
        for line in run(CLI, "logs", service.name, "-n", service.namespace, "--output", "json").splitlines()
    ]
    assert lines
    assert {line["service"] for line in lines} == {service.model}
    assert any(line["event"] == "request" and line["endpoint"] == "completions" for line in lines)
    counted = f'ray_modelyard_requests_total{{.*endpoint="completions".*service="{service.model}".*status="200".*}} 1.0'
    until("Ray's port to tell of the request", lambda: re.search(counted, _numbers_of_workers()), within=30)


def _numbers_of_workers() -> str:
    """What Prometheus reads of all Ray workers."""
    pods = items("pods", SYSTEM, "ray.io/node-type=worker")
    urls = [f"http://{pod['status']['podIP']}:8080/metrics" for pod in pods if pod["status"].get("podIP")]
    return "".join(urllib.request.urlopen(url, timeout=10).read().decode() for url in urls)  # noqa: S310 - the pods'
