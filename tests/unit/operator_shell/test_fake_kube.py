"""The fake holds what the contract tests hold of the real API server."""

import pytest
from tests.unit.fakes.kube import FakeKube, Write

from modelyard_operator.kube.client import CONFIG_MAP, MODEL_SERVICE, POD, RAY_CLUSTER, Manifest
from modelyard_operator.kube.errors import AlreadyExists, Conflict, KindAbsent, Unavailable


def config_map(data: dict[str, str], **metadata: object) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "team", **metadata},
        "data": data,
    }


def service(spec: Manifest, **metadata: object) -> Manifest:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": "x", "namespace": "team", **metadata},
        "spec": spec,
    }


async def test_what_the_operator_no_longer_applies_goes_and_what_others_wrote_stays() -> None:
    kube = FakeKube()
    await kube.apply(config_map({"ours": "1", "gone": "1"}))
    kube.put(config_map({"ours": "1", "gone": "1", "theirs": "1"}))
    stored = await kube.apply(config_map({"ours": "2"}))
    assert stored["data"] == {"ours": "2", "theirs": "1"}


async def test_the_same_again_is_no_write() -> None:
    kube = FakeKube()
    first = await kube.apply(config_map({"a": "1"}))
    again = await kube.apply(config_map({"a": "1"}))
    assert first == again
    assert kube.writes == [Write("apply", "ConfigMap", "team", "c")]
    assert len(kube.requests) == 2


async def test_only_a_new_spec_is_a_new_generation() -> None:
    kube = FakeKube()
    kube.put(service({"a": 1}))
    await kube.apply_status(service({}) | {"status": {"x": 1}})
    now = kube.put(service({"a": 1}, labels={"l": "1"}))
    assert now["metadata"]["generation"] == 1
    now = kube.put(service({"a": 2}))
    assert now["metadata"]["generation"] == 2


async def test_a_write_to_what_has_moved_on_is_a_conflict() -> None:
    kube = FakeKube()
    old = await kube.apply(config_map({"a": "1"}))
    version = old["metadata"]["resourceVersion"]
    await kube.apply(config_map({"a": "2"}, resourceVersion=version))
    with pytest.raises(Conflict):
        await kube.apply(config_map({"a": "3"}, resourceVersion=version))
    with pytest.raises(Conflict):
        await kube.set_finalizers(old, ["f"])
    with pytest.raises(Conflict):
        await kube.apply_status(service({}) | {"status": {}})


async def test_finalizers_hold_a_deleted_object() -> None:
    kube = FakeKube()
    await kube.set_finalizers(kube.put(service({})), ["f"])
    assert await kube.delete(MODEL_SERVICE, "x", namespace="team")
    held = await kube.get(MODEL_SERVICE, "x", namespace="team")
    assert held is not None
    assert "deletionTimestamp" in held["metadata"]
    await kube.set_finalizers(held, [])
    assert await kube.get(MODEL_SERVICE, "x", namespace="team") is None
    assert not await kube.delete(MODEL_SERVICE, "x", namespace="team")


async def test_a_deletion_by_uid_spares_a_successor() -> None:
    kube = FakeKube()
    kube.put(service({}))
    assert not await kube.delete(MODEL_SERVICE, "x", namespace="team", uid="another")
    assert kube.find(MODEL_SERVICE, "x", namespace="team") is not None


async def test_lists_select_by_namespace_and_labels() -> None:
    kube = FakeKube()
    for name, namespace, labels in [("a", "t1", {"k": "1"}), ("b", "t1", {"k": "2"}), ("c", "t2", {"k": "1", "l": ""})]:
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        kube.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})

    async def names(namespace: str | None = None, labels: str | None = None) -> list[str]:
        found = await kube.list(POD, namespace=namespace, labels=labels)
        return [each["metadata"]["name"] for each in found]

    assert await names() == ["a", "b", "c"]
    assert await names("t1") == ["a", "b"]
    assert await names(labels="k=1") == ["a", "c"]
    assert await names(labels="k=1,l") == ["c"]
    with pytest.raises(ValueError, match="knows no selector"):
        await names(labels="k!=1")


async def test_failures_come_as_often_as_ordered_and_before_anything_is_done() -> None:
    kube = FakeKube(absent=[RAY_CLUSTER])
    kube.fail("apply", CONFIG_MAP, Unavailable("down"))
    with pytest.raises(Unavailable):
        await kube.apply(config_map({}))
    assert kube.find(CONFIG_MAP, "c", namespace="team") is None
    await kube.apply(config_map({}))
    with pytest.raises(KindAbsent):
        await kube.list(RAY_CLUSTER)
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "team"}}
    await kube.create(event)
    with pytest.raises(AlreadyExists):
        await kube.create(event)


async def test_garbage_goes_with_its_last_owner() -> None:
    kube = FakeKube()
    owner = kube.put(service({}))
    reference = {"kind": "ModelService", "name": "x", "uid": owner["metadata"]["uid"]}
    child = kube.put(config_map({}, ownerReferences=[reference]))
    grandchild = {"kind": "ConfigMap", "name": "c", "uid": child["metadata"]["uid"]}
    kube.put({**config_map({}), "metadata": {"name": "d", "namespace": "team", "ownerReferences": [grandchild]}})
    kube.collect_garbage()
    assert len(kube.all(CONFIG_MAP)) == 2
    kube.remove(MODEL_SERVICE, "x", namespace="team")
    kube.collect_garbage()
    assert kube.all(CONFIG_MAP) == []
