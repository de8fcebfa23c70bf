"""The token of Ray's dashboard is replaced under load."""

import base64
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import SYSTEM, get, items, kubectl, until
from e2e.traffic import Load

if TYPE_CHECKING:
    from e2e.conftest import Resident


@pytest.mark.extended
@pytest.mark.timeout(480)
def test_new_token(resident: "Resident") -> None:
    cluster = get("servingcluster", "default", SYSTEM)
    assert cluster is not None
    generation = cluster["spec"].get("tokenGeneration", 1) + 1
    (old,) = _ray_clusters()
    token = _token(old)
    assert _status(old, token) == 200
    with Load(resident.url, resident.body) as load:
        until("traffic", lambda: load.count > 20, within=60)
        begun = time.monotonic()
        change = '{"spec": {"tokenGeneration": %d}}' % generation  # noqa: UP031 - JSON's braces
        kubectl("patch", "servingcluster", "default", "-n", SYSTEM, "--type=merge", "-p", change)
        until("the old RayCluster to go", lambda: old not in _ray_clusters(), within=300)
        took, count = time.monotonic() - begun, load.count
        until("traffic afterwards", lambda: load.count > count + 20, within=60)
    assert load.failures == []
    (new,) = _ray_clusters()
    assert _status(new, token) == 403
    assert _status(new, _token(new)) == 200
    until("the old token to go", lambda: get("secret", old, SYSTEM) is None, within=60)
    print(f"token replaced in {took:.0f} s; {load.count} requests, slowest {load.slowest_s:.2f} s")


def _ray_clusters() -> list[str]:
    return [each["metadata"]["name"] for each in items("rayclusters", SYSTEM)]


def _token(ray_cluster: str) -> str:
    secret = get("secret", ray_cluster, SYSTEM)
    assert secret is not None
    return base64.b64decode(secret["data"]["auth_token"]).decode()


def _status(ray_cluster: str, token: str) -> int:
    """What the dashboard answers to a token."""
    (head,) = items("pods", SYSTEM, f"ray.io/cluster={ray_cluster},ray.io/node-type=head")
    url = f"http://{head['status']['podIP']}:8265/api/serve/applications/"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the head's
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
