"""What guards Ray pods, against the real API server: it takes them, and finds nothing to add that we would undo."""

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.kubectl import Kubectl
from tests.unit.desired.samples import cluster
from tests.unit.desired.test_guards import LABELS, PEERS, ray_cluster

from modelyard_operator.desired.disruption_budgets import disruption_budgets
from modelyard_operator.desired.network_policies import network_policy
from modelyard_operator.kube.aio_client import AioKubeClient, connect
from modelyard_operator.kube.client import Manifest, kind_of
from modelyard_operator.reconcile.upkeep import contains

SPACE = cluster().metadata.namespace
GUARDS = [*disruption_budgets(ray_cluster(three=3)), network_policy(cluster(), PEERS)]


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[None]:
    kubectl("create", "namespace", SPACE)
    yield
    kubectl.must("delete", "networkpolicies,poddisruptionbudgets", "--all", "-n", SPACE)


@pytest.fixture
async def kube(kubectl: Kubectl, namespace: None) -> AsyncIterator[AioKubeClient]:
    async with connect(kubectl.kubeconfig) as client:
        yield client


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard["kind"])
async def test_a_guard_is_taken_as_it_is(kube: AioKubeClient, kubectl: Kubectl, guard: Manifest) -> None:
    kubectl.must("apply", "--dry-run=server", "--validate=strict", "-f", "-", manifest=guard)
    await kube.apply(guard)
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    (live,) = await kube.list(kind_of(guard), namespace=SPACE, labels=selector)
    assert contains(live, guard)
    assert await kube.delete(kind_of(guard), guard["metadata"]["name"], namespace=SPACE, uid=live["metadata"]["uid"])
