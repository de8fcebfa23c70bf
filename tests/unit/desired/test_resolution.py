"""Which shape a spec gets, and why it gets none."""

from typing import Any

import pytest
from tests.unit.desired.samples import (
    GPU_POOL,
    LARGE,
    SMALL,
    cluster,
    cluster_with_cache,
    pool,
    resolution,
    resolved,
    service,
)

from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.serving_cluster import ModelCache
from modelyard_operator.desired.ray_cluster import ray_cluster_name
from modelyard_operator.desired.resolution import Rejection, spec_hash
from modelyard_operator.desired.worker_group import worker_group


@pytest.mark.parametrize(
    ("resources", "shape"),
    [
        ({}, "small"),
        ({"memory": "2Gi"}, "small"),
        ({"memory": "2147483649"}, "large"),
        ({"cpu": "1500m"}, "large"),
        ({"cpu": "4", "memory": "8Gi"}, "large"),
    ],
    ids=str,
)
def test_the_smallest_shape_that_fits_is_taken(resources: dict[str, Any], shape: str) -> None:
    for shapes in ([LARGE, SMALL], [SMALL, LARGE]):
        assert resolved(service(resources=resources), using=pool(shapes=shapes)).shape.name == shape


@pytest.mark.parametrize(
    ("spec", "pool_spec", "words"),
    [
        ({"resources": {"memory": "64Gi"}}, {}, ["spec.resources.memory 64Gi", "large: 8Gi memory, 4 cpu", "cpu"]),
        ({"resources": {"cpu": "32"}}, {}, ["spec.resources.cpu 32", "small: 2Gi memory, 1 cpu"]),
        ({"accelerator": {"count": 1}}, {}, ["spec.accelerator.count 1", "0 accelerators"]),
        ({"resources": {"memory": "17Gi"}}, GPU_POOL, ["spec.resources.memory 17Gi", "1xl4: 16Gi memory"]),
    ],
    ids=["memory", "cpu", "accelerators of a pool without", "memory of a GPU pool"],
)
def test_what_cannot_fit_is_refused_with_the_numbers_and_the_fix(
    spec: dict[str, Any], pool_spec: dict[str, Any], words: list[str]
) -> None:
    refused = resolution(service(**spec), using=pool(**pool_spec))
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.NO_SHAPE_FITS
    for word in [*words, "Ask for less"]:
        assert word in refused.message


def test_a_claim_that_is_not_mounted_is_refused_with_the_lines_to_add() -> None:
    refused = resolution(service("pvc://elsewhere/x"))
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.VOLUME_NOT_MOUNTED
    assert "'elsewhere'" in refused.message
    assert "it mounts: models" in refused.message
    assert "{claim: elsewhere}" in refused.message
    none = resolution(service(), on=cluster(volumes=[]))
    assert isinstance(none, Rejection)
    assert "it mounts: none" in none.message


def test_what_is_downloaded_needs_no_claim() -> None:
    found = resolved(service("hf://acme/tiny"), on=cluster(volumes=[]))
    assert (found.model_path, found.cache) == ("", ModelCache())


def test_the_cache_is_part_of_a_revision_only_where_it_is_used() -> None:
    shared, cached = cluster(), cluster_with_cache(size="50Gi")
    assert resolved(on=cached).revision == resolved(on=shared).revision
    of = service("hf://acme/tiny")
    assert resolved(of, on=cached).revision != resolved(of, on=shared).revision
    assert ray_cluster_name(cached) == ray_cluster_name(shared)


def test_a_pool_of_accelerators_gives_one_where_none_is_asked_for() -> None:
    assert resolved(using=pool(**GPU_POOL)).accelerators == 1
    assert resolved().accelerators == 0


def test_the_model_lies_where_the_claim_is_mounted() -> None:
    assert resolved(service("pvc://models/a/b.c")).model_path == "/models/models/a/b.c"


@pytest.mark.parametrize(
    "edit",
    [{"replicas": 3}, {"suspend": True}, {"autoscaling": {"maxReplicas": 4}}, {"accelerator": {"pool": "cpu"}},
     {"requestTimeout": "1h"}],
    ids=str,
)  # fmt: skip
def test_what_is_no_part_of_a_revision_makes_none(edit: dict[str, Any]) -> None:
    """Scaling, suspension, and a default that is written out."""
    assert spec_hash(service(**edit).spec) == spec_hash(service().spec)
    assert resolved(service(**edit)).revision == resolved().revision


@pytest.mark.parametrize(
    "edit",
    [{"requestTimeout": "2h"}, {"accelerator": {"pool": "other"}}, {"resources": {"memory": "1Gi"}},
     {"model": {"source": {"uri": "pvc://models/other"}}}, {"model": {"source": {"uri": "pvc://models/smollm2"}}},
     {"servingCluster": {"name": "other"}}],
    ids=str,
)  # fmt: skip
def test_what_is_part_of_a_revision_makes_another(edit: dict[str, Any]) -> None:
    assert spec_hash(service(**edit).spec) != spec_hash(service().spec)
    assert resolved(service(**edit)).revision != resolved().revision


def test_what_is_resolved_otherwise_is_another_revision() -> None:
    one = resolved()
    others = [
        resolved(on=cluster(image="serving:2")),
        resolved(on=cluster(env=[{"name": "A", "value": "1"}])),
        resolved(using=pool(shapes=[{**SMALL, "memory": "3Gi"}])),
        resolved(using=pool(nodeSelector={"disk": "fast"})),
    ]
    assert len({one.revision, *(other.revision for other in others)}) == 5


def test_other_shapes_and_limits_of_the_pool_do_not_matter() -> None:
    assert resolved(using=pool(shapes=[SMALL], maxWorkers=3)).revision == resolved().revision


QUARTER = {"name": "quarter", "cpu": "4", "memory": "16Gi", "accelerators": 1, "replicasPerWorker": 4}


def test_a_replica_may_count_on_its_part_of_a_shared_worker() -> None:
    shared = pool(shapes=[{**LARGE, "replicasPerWorker": 4}])
    assert resolved(service(resources={"memory": "2Gi", "cpu": "1"}), using=shared).shape.name == "large"
    for resources in ({"memory": "2049Mi"}, {"cpu": "1001m"}):
        refused = resolution(service(resources=resources), using=shared)
        assert isinstance(refused, Rejection)
        assert "large: 8Gi memory, 4 cpu, 0 accelerators for 4 replicas" in refused.message


@pytest.mark.parametrize(
    ("accelerators", "replicas", "part"), [(1, 1, 1), (1, 4, 0.25), (2, 1, 1), (2, 2, 1), (4, 2, 1), (2, 8, 0.25)]
)
def test_a_replica_gets_its_part_of_the_accelerators(accelerators: int, replicas: int, part: float) -> None:
    shape = {**QUARTER, "accelerators": accelerators, "replicasPerWorker": replicas}
    assert resolved(using=pool(**{**GPU_POOL, "shapes": [shape]})).accelerators_per_replica == part


def test_sharing_counts_in_a_revision_only_where_it_is_used() -> None:
    alone, shared = pool(shapes=[{**LARGE, "replicasPerWorker": 1}]), pool(shapes=[{**LARGE, "replicasPerWorker": 2}])
    assert resolved(using=alone).revision == resolved(using=pool(shapes=[LARGE])).revision
    assert resolved(using=shared).revision != resolved(using=alone).revision


def test_a_service_on_a_claim_has_the_names_that_it_had_before_there_was_a_cache() -> None:
    """As a release without spec.modelCache made them: another name would be another revision or other workers."""
    assert resolved().revision == "520f9261"
    assert worker_group(resolved())["groupName"] == "cpu-small-749792"
    assert ray_cluster_name(cluster_with_cache(size="50Gi")) == "shared-c2409e"
