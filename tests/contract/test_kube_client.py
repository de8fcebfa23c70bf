"""The client and the finalizer against the real API server; the fake in tests/unit/fakes holds the same."""

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.kubectl import Kubectl

from modelyard_operator.kube import aio_client
from modelyard_operator.kube.aio_client import AioKubeClient, connect
from modelyard_operator.kube.client import (
    CONFIG_MAP,
    CRD,
    MODEL_SERVICE,
    NAMESPACE,
    RAY_CLUSTER,
    SERVING_CLUSTER,
    Manifest,
)
from modelyard_operator.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, KindAbsent
from modelyard_operator.reconcile import finalizer
from modelyard_operator.reconcile.finalizer import FINALIZER
from modelyard_operator.reconcile.result import Key

SPACE = "kube-client"
CLUSTER = Key(SPACE, "c")


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    kubectl.must("create", "namespace", SPACE)
    yield SPACE
    kubectl.must("delete", "configmaps,servingclusters,modelservices", "--all", "-n", SPACE)


@pytest.fixture
async def kube(kubectl: Kubectl, namespace: str) -> AsyncIterator[AioKubeClient]:
    async with connect(kubectl.kubeconfig) as client:
        yield client


def config_map(name: str, data: dict[str, str], **metadata: object) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": SPACE, **metadata},
        "data": data,
    }


def serving_cluster(**more: object) -> Manifest:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ServingCluster",
        "metadata": {"name": CLUSTER.name, "namespace": SPACE},
        **more,
    }


async def test_what_is_no_longer_applied_goes_and_what_others_wrote_stays(
    kube: AioKubeClient, kubectl: Kubectl
) -> None:
    await kube.apply(config_map("owned", {"ours": "1", "gone": "1"}))
    kubectl.must("patch", "configmap", "owned", "-n", SPACE, "--patch", '{"data": {"theirs": "1"}}')
    stored = await kube.apply(config_map("owned", {"ours": "2"}))
    assert stored["data"] == {"ours": "2", "theirs": "1"}
    assert (stored["apiVersion"], stored["kind"]) == ("v1", "ConfigMap")
    again = await kube.apply(config_map("owned", {"ours": "2"}))
    assert again["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]


async def test_a_write_to_what_has_moved_on_is_a_conflict(kube: AioKubeClient) -> None:
    old = await kube.apply(config_map("moves", {"a": "1"}))
    version = old["metadata"]["resourceVersion"]
    await kube.apply(config_map("moves", {"a": "2"}, resourceVersion=version))
    with pytest.raises(Conflict):
        await kube.apply(config_map("moves", {"a": "3"}, resourceVersion=version))
    with pytest.raises(Conflict):
        await kube.set_finalizers(old, ["example.com/x"])


async def test_lists_are_whole_over_pages_and_select_by_label(
    kube: AioKubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio_client, "PAGE_SIZE", 2)
    for number in range(5):
        await kube.apply(config_map(f"page-{number}", {}, labels={"pages": "yes", "n": str(number)}))
    found = await kube.list(CONFIG_MAP, namespace=SPACE, labels="pages=yes")
    assert [item["metadata"]["name"] for item in found] == [f"page-{number}" for number in range(5)]
    assert all(item["kind"] == "ConfigMap" and "managedFields" not in item["metadata"] for item in found)
    (one,) = await kube.list(CONFIG_MAP, labels="pages,n=3")
    assert one["metadata"]["name"] == "page-3"


async def test_status_is_written_apart_from_the_rest(kube: AioKubeClient) -> None:
    before = await kube.apply(serving_cluster(spec={}))
    after = await kube.apply_status(serving_cluster(status={"observedGeneration": 7}))
    assert after["status"]["observedGeneration"] == 7
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert (await kube.apply(serving_cluster(spec={})))["status"]["observedGeneration"] == 7


async def test_the_finalizer_holds_and_releases_whoever_else_writes(kube: AioKubeClient, kubectl: Kubectl) -> None:
    await kube.apply(serving_cluster(spec={}))
    patch = '{"metadata": {"finalizers": ["example.com/other"]}}'
    kubectl.must("patch", "servingcluster", CLUSTER.name, "-n", SPACE, "--type=merge", "--patch", patch)
    await finalizer.hold(kube, SERVING_CLUSTER, CLUSTER)
    await kube.apply(serving_cluster(spec={}))
    await kube.apply_status(serving_cluster(status={"observedGeneration": 1}))
    await finalizer.release(kube, SERVING_CLUSTER, CLUSTER)
    held = await kube.get(SERVING_CLUSTER, CLUSTER.name, namespace=SPACE)
    assert held is not None
    assert held["metadata"]["finalizers"] == ["example.com/other", FINALIZER], "only a deletion releases"
    assert await kube.delete(SERVING_CLUSTER, CLUSTER.name, namespace=SPACE)
    await finalizer.release(kube, SERVING_CLUSTER, CLUSTER)
    left = await kube.get(SERVING_CLUSTER, CLUSTER.name, namespace=SPACE)
    assert left is not None
    assert left["metadata"]["finalizers"] == ["example.com/other"]
    await kube.set_finalizers(left, [])
    assert await kube.get(SERVING_CLUSTER, CLUSTER.name, namespace=SPACE) is None


async def test_a_deletion_by_uid_spares_a_successor(kube: AioKubeClient) -> None:
    stored = await kube.apply(config_map("deleted", {}))
    assert not await kube.delete(CONFIG_MAP, "deleted", namespace=SPACE, uid="0" * 36)
    assert await kube.delete(CONFIG_MAP, "deleted", namespace=SPACE, uid=stored["metadata"]["uid"])
    assert await kube.get(CONFIG_MAP, "deleted", namespace=SPACE) is None
    assert not await kube.delete(CONFIG_MAP, "deleted", namespace=SPACE)


async def test_refusals_say_what_is_wrong(kube: AioKubeClient) -> None:
    with pytest.raises(Invalid, match="field not declared"):
        await kube.apply({**config_map("bad", {}), "dat": {}})
    with pytest.raises(Invalid, match=r"spec\.unknown"):
        await kube.apply(serving_cluster(spec={"unknown": 1}))
    with pytest.raises(KindAbsent):
        await kube.list(RAY_CLUSTER)
    with pytest.raises(KindAbsent):
        await kube.get(RAY_CLUSTER, "x", namespace=SPACE)
    with pytest.raises(Conflict, match="not found"):
        await kube.apply_status({**serving_cluster(status={}), "metadata": {"name": "gone", "namespace": SPACE}})
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": SPACE},
        "involvedObject": {"namespace": SPACE},
    }
    await kube.create(event)
    with pytest.raises(AlreadyExists):
        await kube.create(event)


async def test_what_rbac_does_not_allow_names_verb_and_resource(kubectl: Kubectl, namespace: str) -> None:
    async with connect(kubectl.kubeconfig) as kube:
        kube._api.set_default_header("Impersonate-User", "nobody")
        with pytest.raises(Forbidden, match='cannot list resource "modelservices"'):
            await kube.list(MODEL_SERVICE)


async def test_absent_objects_are_none_and_cluster_scoped_ones_need_no_namespace(kube: AioKubeClient) -> None:
    assert await kube.get(CONFIG_MAP, "none", namespace=SPACE) is None
    assert await kube.get(CONFIG_MAP, "none", namespace="no-such-namespace") is None
    found = await kube.get(NAMESPACE, SPACE)
    assert found is not None
    assert await kube.get(CRD, "modelservices.modelyard.dev") is not None
