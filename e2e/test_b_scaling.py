"""Replicas follow `kubectl scale` and the load; a service at zero answers."""

import time
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import Service, kubectl, until
from e2e.traffic import Load, post

if TYPE_CHECKING:
    from e2e.conftest import Maker

BODY = {"prompt": "The", "max_tokens": 4, "temperature": 0}


@pytest.mark.timeout(540)
def test_up_and_down(make: "Maker") -> None:
    """One service by hand while another one follows its load, to zero and back."""
    auto = {
        "minReplicas": 0,
        "maxReplicas": 2,
        "targetOngoingRequests": 2,
        "upscaleDelay": "2s",
        "downscaleDelay": "5s",
    }
    elastic, scaled = make("elastic", autoscaling=auto), make("scaled")
    elastic.wait()
    _scale_by_hand(scaled, make.url(scaled))
    elastic.wait_reason("Ready", "ScaledToZero", within=120)
    until("no replica", lambda: elastic.status.get("replicas") == 0, within=60)
    begun = time.monotonic()
    status, answer = post(make.url(elastic), {**BODY, "model": elastic.model})
    assert status == 200, answer
    print(f"a request to a service at zero was answered after {time.monotonic() - begun:.1f} s")
    with Load(make.url(elastic), {**BODY, "model": elastic.model, "max_tokens": 48}, pause_s=0) as load:
        until("two replicas under load", lambda: elastic.status.get("replicas") == 2, within=150)
    assert load.failures == []
    until("zero replicas without load", lambda: elastic.status.get("replicas") == 0, within=150)


def _scale_by_hand(service: Service, url: str) -> None:
    service.wait()
    kubectl("scale", "modelservice", service.name, "-n", service.namespace, "--replicas=2")
    until("two replicas", lambda: service.status.get("replicas") == 2, within=120)
    kubectl("scale", "modelservice", service.name, "-n", service.namespace, "--replicas=0")
    service.wait_reason("Ready", "Stopped")
    status, answer = post(url, {**BODY, "model": service.model})
    assert status == 503
    assert "replicas" in answer["error"]["message"]
    kubectl("scale", "modelservice", service.name, "-n", service.namespace, "--replicas=1")
    service.wait()
    status, answer = post(url, {**BODY, "model": service.model})
    assert status == 200, answer
