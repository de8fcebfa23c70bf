"""A service whose namespace may not use its ServingCluster: refused when new, left as it is when it runs."""

from typing import Any

from tests.unit.reconcile.world import CLUSTER, World

from modelyard_operator.kube.client import NAMESPACE, SERVING_CLUSTER

BY_LABEL = {"from": "Selector", "selector": {"matchLabels": {"models": "shared"}}}


def allow(world: World, allowed: dict[str, Any]) -> None:
    shared = world.kube.find(SERVING_CLUSTER, CLUSTER.name, namespace=CLUSTER.namespace)
    assert shared is not None
    world.kube.put({**shared, "spec": {**shared["spec"], "allowedNamespaces": allowed}})


def label(world: World, **labels: str) -> None:
    world.kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": labels}})


async def test_a_new_service_of_a_namespace_that_is_not_allowed_is_refused(world: World) -> None:
    allow(world, {"from": "Same"})
    world.apply_service()
    await world.settle()
    assert world.conditions()["Accepted"] == ("False", "NamespaceNotAllowed")
    assert world.revisions == {}
    assert world.applications == {}
    allow(world, {"from": "All"})
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_one_that_runs_serves_on_and_scales_and_gets_no_new_revision(world: World) -> None:
    world.apply_service()
    await world.settle()
    (application,) = world.applications
    allow(world, {"from": "Same"})
    await world.settle()
    world.apply_service(resources={"memory": "4Gi"}, replicas=2)
    await world.settle()
    assert world.conditions()["Accepted"] == ("False", "NamespaceNotAllowed")
    assert world.conditions()["Available"] == ("True", "Serving")
    assert world.applications == {application: "RUNNING"}
    assert world.serve.target(application) == 2


async def test_labels_of_the_namespace_let_a_service_in(world: World) -> None:
    allow(world, BY_LABEL)
    world.apply_service()
    label(world, models="own")
    await world.settle()
    assert world.conditions()["Accepted"] == ("False", "NamespaceNotAllowed")
    label(world, models="shared")
    await world.settle()
    assert world.conditions()["Ready"] == ("True", "Serving")


async def test_a_namespace_without_labels_meets_no_selector(world: World) -> None:
    allow(world, BY_LABEL)
    world.apply_service()
    assert world.kube.find(NAMESPACE, "team-a") is None
    await world.settle()
    assert world.conditions()["Accepted"] == ("False", "NamespaceNotAllowed")
