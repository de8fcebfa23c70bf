"""What somebody else does to what the operator keeps is put back under load, and an Event says what it was."""

import base64
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import SYSTEM, get, items, kubectl, until
from e2e.traffic import Load, post

if TYPE_CHECKING:
    from e2e.cluster import Service
    from e2e.conftest import Resident

CLUSTER = "modelyard.dev/serving-cluster=default"


def drift_events() -> dict[str, str]:
    """The messages of all Events of drift, by uid."""
    found = json.loads(kubectl("get", "events", "-A", "--field-selector", "reason=DriftUndone", "-o", "json"))
    return {event["metadata"]["uid"]: event["message"] for event in found["items"]}


@contextmanager
def undone(*words: str) -> Iterator[None]:
    """What is done in the block is undone soon, and a new Event tells it with all `words`."""
    before = drift_events().keys()
    yield

    def told() -> bool:
        new = [message for uid, message in drift_events().items() if uid not in before]
        return any(all(word in message for word in words) for message in new)

    until(f"an Event that says {words}", told, within=120)


def ray_cluster() -> dict[str, Any]:
    (only,) = items("rayclusters", SYSTEM, CLUSTER)
    return only


def active_record(service: "Service") -> dict[str, Any]:
    name = f"{service.name}-{service.status['activeRevision']}"
    found = get("controllerrevision", name, service.namespace)
    assert found is not None
    return found


class Serve:
    """Ray's dashboard, as somebody has it who got hold of the token."""

    def __init__(self) -> None:
        ray = ray_cluster()
        secret = get("secret", ray["metadata"]["name"], SYSTEM)
        assert secret is not None
        token = base64.b64decode(secret["data"]["auth_token"]).decode()
        self._url = f"http://{ray['status']['head']['podIP']}:8265/api/serve/applications/"
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def applications(self) -> dict[str, dict[str, Any]]:
        """The config of each application, by name."""
        found = json.loads(self._ask("GET"))["applications"]
        return {name: facts["deployed_app_config"] for name, facts in found.items()}

    def put(self, applications: dict[str, dict[str, Any]]) -> None:
        self._ask("PUT", {"proxy_location": "EveryNode", "applications": list(applications.values())})

    def _ask(self, method: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url, data=data, headers=self._headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            text: bytes = answer.read()
            return text


def edit_ray_cluster() -> None:
    name = ray_cluster()["metadata"]["name"]
    image = "/spec/headGroupSpec/template/spec/containers/0/image"
    edits = [
        {
            "op": "replace",
            "path": image,
            "value": "example.com/other:1",
        },
        {"op": "replace", "path": "/spec/workerGroupSpecs/0/maxReplicas", "value": 77},
    ]
    kubectl("patch", "raycluster", name, "-n", SYSTEM, "--type=json", "-p", json.dumps(edits))


def put_another_config() -> None:
    serve = Serve()
    applications = serve.applications()
    for application in applications.values():
        application["deployments"][0]["health_check_period_s"] = 11
    applications["playground"] = {"name": "playground", "route_prefix": "/playground", "import_path": "nowhere:app"}
    serve.put(applications)


@pytest.mark.timeout(480)
def test_what_somebody_changes_is_put_back_under_load(resident: "Resident") -> None:
    service = resident.service
    config, ray = Serve().applications(), ray_cluster()["spec"]
    routes, record = get("configmap", "modelyard-routes", SYSTEM), active_record(service)
    assert routes is not None
    in_namespace = ("-n", service.namespace)
    with Load(resident.url, resident.body, clients=8) as load:
        until("some traffic", lambda: load.count > 50, within=60)
        with undone("RayCluster", "put back", "containers[0].image", "maxReplicas"):
            edit_ray_cluster()
        with undone("ConfigMap", "was deleted by somebody else: made again"):
            kubectl("delete", "configmap", "modelyard-routes", "-n", SYSTEM)
        with undone("ConfigMap", "put back data.routes.json"):
            nothing = json.dumps({"data": {"routes.json": "{}"}})
            kubectl("patch", "configmap", "modelyard-routes", "-n", SYSTEM, "--type=merge", "-p", nothing)
        with undone("ControllerRevision", "was deleted by somebody else: made again"):
            kubectl("delete", "controllerrevision", record["metadata"]["name"], *in_namespace)
        with undone("ControllerRevision", "put back metadata.annotations.modelyard.dev/phase"):
            phase = "modelyard.dev/phase=Retired"
            kubectl("annotate", "controllerrevision", record["metadata"]["name"], *in_namespace, phase, "--overwrite")
        with undone("Serve config", f"changed {service.namespace}.{service.name}.", "added playground"):
            put_another_config()
        before = load.count
        until("traffic after it all", lambda: load.count > before + 50, within=60)
        until("Serve to run what it ran before", lambda: Serve().applications() == config, within=60)
    print(f"{load.count} requests, slowest {load.slowest_s:.2f} s")
    assert load.failures == []
    again = active_record(service)
    assert (again["data"], again["metadata"]["annotations"]) == (record["data"], record["metadata"]["annotations"])
    after = ray_cluster()["spec"]
    assert after["headGroupSpec"] == ray["headGroupSpec"]
    assert [g["maxReplicas"] for g in after["workerGroupSpecs"]] == [g["maxReplicas"] for g in ray["workerGroupSpecs"]]
    published = get("configmap", "modelyard-routes", SYSTEM)
    assert published is not None
    assert _routes(published) == _routes(routes)
    assert len(service.settled()["revisions"]) == 1


def _routes(config_map: dict[str, Any]) -> list[Any]:
    routes: list[Any] = json.loads(config_map["data"]["routes.json"])["routes"]
    return routes


def delete_the_ray_cluster() -> None:
    kubectl("delete", "raycluster", ray_cluster()["metadata"]["name"], "-n", SYSTEM, "--wait=false")


def put_nothing() -> None:
    Serve().put({})


@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    ("destroy", "words"),
    [(put_nothing, ("Serve config", "removed")), (delete_the_ray_cluster, ("RayCluster", "was deleted", "made again"))],
    ids=["serve", "raycluster"],
)
def test_what_somebody_destroys_comes_back_by_itself(
    resident: "Resident", destroy: Callable[[], None], words: tuple[str, ...]
) -> None:
    """Requests are lost meanwhile: nothing that is left could answer them."""
    with undone(*words):
        destroy()

    def answers() -> bool:
        try:
            return post(resident.url, resident.body, timeout=20)[0] == 200
        except OSError:
            return False

    until("answers again", answers, within=300)
    resident.service.settled(within=120)
