"""The gateway reads its routes from the real API server, with no more rights than the chart gives it."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from kubernetes.aio import client
from tests.kubectl import Kubectl

from modelyard_gateway.config_map import ConfigMapSource

NAMESPACE = "gateway-routes"
READER = {
    "apiGroups": [""],
    "resources": ["configmaps"],
    "resourceNames": ["modelyard-routes"],
    "verbs": ["list", "watch"],
}


def in_namespace(api_version: str, kind: str, name: str, **content: object) -> dict[str, object]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def routes(text: str, name: str = "modelyard-routes") -> dict[str, object]:
    return in_namespace("v1", "ConfigMap", name, data={"routes.json": text})


@pytest.fixture
async def documents(kubectl: Kubectl) -> AsyncIterator[AsyncIterator[str]]:
    rbac = "rbac.authorization.k8s.io/v1"
    subject = {"kind": "ServiceAccount", "name": "gateway", "namespace": NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gateway"}
    kubectl.must("create", "namespace", NAMESPACE)
    kubectl.must(
        *("apply", "-f", "-"),
        manifest=[
            in_namespace("v1", "ServiceAccount", "gateway"),
            in_namespace(rbac, "Role", "gateway", rules=[READER]),
            in_namespace(rbac, "RoleBinding", "gateway", roleRef=role, subjects=[subject]),
        ],
    )
    token = kubectl.must("create", "token", "gateway", "--namespace", NAMESPACE).out.strip()
    async with client.ApiClient(configuration(kubectl.kubeconfig, token)) as api_client:
        documents = ConfigMapSource(namespace=NAMESPACE, api=client.CoreV1Api(api_client)).documents()
        yield documents
        await documents.aclose()  # type: ignore[attr-defined]
    kubectl.must("delete", "namespace", NAMESPACE, "--wait=false")


def configuration(kubeconfig: Path, token: str) -> client.Configuration:
    """Of the same server, as the service account."""
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    found = client.Configuration(host=cluster["server"], api_key={"BearerToken": f"Bearer {token}"})
    found.ca_cert_data = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return found


async def test_documents_follow_the_config_map(kubectl: Kubectl, documents: AsyncIterator[str]) -> None:
    async def publish(text: str, name: str = "modelyard-routes") -> None:
        done = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        await asyncio.to_thread(kubectl.must, *done, manifest=routes(text, name))

    await publish("of another", "modelyard-other")
    await publish("one")
    assert await asyncio.wait_for(anext(documents), 20) == "one"
    large = "x" * 900_000
    for text in ("two", large):
        waiting = asyncio.ensure_future(anext(documents))
        await publish(text)
        assert await asyncio.wait_for(waiting, 20) == text
    waiting = asyncio.ensure_future(anext(documents))
    await asyncio.to_thread(kubectl.must, "delete", "configmap", "modelyard-routes", "--namespace", NAMESPACE)
    await publish("three")
    assert await asyncio.wait_for(waiting, 20) == "three"
