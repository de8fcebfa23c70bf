"""The platform under test: installed once for the session as its users install it, and taken away by the last test."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster import RELEASE, REPOSITORY, SYSTEM, Service, apply, get, items, kubectl, run, until

MODELS_CLAIM = "models"
RESIDENTS = "t-residents"
TEST_LABELS = {"modelyard.dev/e2e": "true"}


def pytest_configure(config: pytest.Config) -> None:
    if not os.environ.get("KUBECONFIG"):
        raise pytest.UsageError("KUBECONFIG is not set: run `make e2e`, or set it to a cluster for tests")


@pytest.fixture(scope="session")
def platform() -> Iterator[str]:
    """Both charts, installed from nothing; gives the gateway's URL."""
    if os.environ.get("MODELYARD_E2E_REUSE") and get("deployment", "modelyard-operator", SYSTEM):
        yield gateway_url()
        return
    install()
    yield gateway_url()


def left_namespaces() -> set[str]:
    """Namespaces of tests that have ended, which Kubernetes is still deleting."""
    found = {n["metadata"]["name"] for n in items("namespaces", labels="modelyard.dev/e2e=true")}
    return found - {RESIDENTS}


def install() -> None:
    """`helm install` of both charts, and the claim with the models."""
    run("helm", "upgrade", "--install", "modelyard-crds", str(REPOSITORY / "charts/modelyard-crds"))
    values = {
        "image": {
            "registry": os.environ.get("MODELYARD_E2E_REGISTRY", "localhost"),
            "tag": os.environ.get("MODELYARD_E2E_TAG", "dev"),
        },
        "defaultServingCluster": {
            "enabled": True,
            "head": {"cpu": "100m", "memory": "3Gi"},
            "runtime": {"volumes": [{"claim": MODELS_CLAIM}]},
        },
        "cpuPool": {
            "shapes": [
                {"name": "small", "cpu": "100m", "memory": "2Gi"},
                {"name": "medium", "cpu": "200m", "memory": "3Gi"},
            ]
        },
    }
    run(
        "helm", "upgrade", "--install", RELEASE, str(REPOSITORY / "charts/modelyard"),
        "--namespace", SYSTEM, "--create-namespace", "--values", "-", "--wait", "--timeout", "120s",
        given=json.dumps(values), timeout=150,
    )  # fmt: skip
    models = os.environ.get("MODELYARD_E2E_MODELS")
    if models and not get("pvc", MODELS_CLAIM, SYSTEM):
        hack = str(REPOSITORY / "hack/cluster")
        run(hack, "volume", "--namespace", SYSTEM, "--claim", MODELS_CLAIM, "--path", models)


def gateway_url() -> str:
    """Where the gateway answers."""
    if elsewhere := os.environ.get("MODELYARD_E2E_GATEWAY"):
        return elsewhere.rstrip("/")
    service = get("service", "modelyard-gateway", SYSTEM)
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own; test_z_uninstall.py sees that all of them have gone."""
    name = "t-" + request.node.name.removeprefix("test_").replace("_", "-").split("[")[0][:40].strip("-")
    until(f"an earlier namespace {name} to be gone", lambda: get("namespace", name) is None, within=120)
    make_namespace(name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def make_namespace(name: str) -> None:
    """A namespace that the tests may fill."""
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": TEST_LABELS}})


@pytest.fixture(scope="session")
def resident_maker(platform: str) -> Iterator["Maker"]:
    """Makes the services that stay for all tests."""
    make_namespace(RESIDENTS)
    yield Maker(RESIDENTS, platform)
    kubectl("delete", "namespace", RESIDENTS, "--wait=false")


@pytest.fixture
def resident(resident_maker: "Maker") -> "Resident":
    """A ready service for tests that leave it as it is: what they do happens around it."""
    service = resident_maker("resident")
    service.settled()
    return Resident(service, resident_maker.url(service))


@dataclass(frozen=True)
class Resident:
    """A service of the small GPT-2 that stays, and where it completes a prompt."""

    service: Service
    url: str

    @property
    def body(self) -> dict[str, Any]:
        """A short request."""
        return {"model": self.service.model, "prompt": "The", "max_tokens": 2, "temperature": 0}


@pytest.fixture
def make(namespace: str, platform: str) -> "Maker":
    """Makes ModelServices in the test's namespace."""
    return Maker(namespace, platform)


class Maker:
    """Makes ModelServices of the small GPT-2 and knows where they answer."""

    def __init__(self, namespace: str, gateway: str) -> None:
        self.namespace = namespace
        self.gateway = gateway

    def __call__(self, name: str, uri: str = "pvc://models/gpt2-small", **spec: object) -> Service:
        apply(
            {
                "apiVersion": "modelyard.dev/v1alpha1",
                "kind": "ModelService",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"model": {"source": {"uri": uri}}, **spec},
            }
        )
        return Service(self.namespace, name)

    def url(self, service: Service, path: str = "/v1/completions") -> str:
        return f"{self.gateway}/{service.namespace}/{service.name}{path}"


@pytest.fixture(scope="session")
def models_folder() -> Path:
    """The folder of prepared models on this machine."""
    return Path(os.environ["MODELYARD_E2E_MODELS"])
