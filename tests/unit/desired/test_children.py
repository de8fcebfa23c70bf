"""Revisions, worker groups, RayClusters: what they say and what they keep."""

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.desired.samples import (
    GPU_POOL,
    PLATFORM,
    cluster,
    cluster_manifest,
    cluster_with_cache,
    pool,
    resolved,
    revision,
    service,
)

from modelyard_gateway.haproxy_config import LONGEST_REQUEST_H
from modelyard_operator.api.chart_values import ChartValues
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.ray_cluster import ray_cluster, ray_cluster_name, with_groups
from modelyard_operator.desired.ray_pods import LONGEST_REQUEST_S, SERVE_ENV, ray_environment
from modelyard_operator.desired.revision import Phase, from_manifest, new_revision, to_manifest
from modelyard_operator.desired.worker_group import sized, worker_group
from modelyard_serving.contract import ReplicaConfig

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize("phase", list(Phase))
def test_a_revision_survives_its_manifest(phase: Phase) -> None:
    for made in (new_revision(resolved(), 7).at(phase), revision(Phase.ACTIVE).at(phase, 9)):
        assert from_manifest(to_manifest(made, "uid")) == made


@pytest.mark.parametrize(
    "spoil",
    [lambda m: m.pop("data"), lambda m: m["data"].update(schema=2), lambda m: m["metadata"].pop("labels"),
     lambda m: m["metadata"].pop("annotations"), lambda m: m["metadata"]["annotations"].clear(),
     lambda m: m.update(data=None), lambda m: m.update(revision=None)],
)  # fmt: skip
def test_what_is_no_revision_of_ours_is_said_to_be_none(spoil: Any) -> None:
    manifest = to_manifest(revision(), "uid")
    spoil(manifest)
    with pytest.raises(ValueError, match=r"schema 2|not a revision|Phase"):
        from_manifest(manifest)


def test_the_replica_can_read_what_the_operator_writes() -> None:
    made = new_revision(resolved(using=pool(**GPU_POOL)), 1)
    (deployment,) = made.data["application"]["deployments"]
    config = ReplicaConfig.model_validate(deployment["user_config"])
    assert (config.service, config.revision, config.device) == ("team-a/smollm2", made.name, "cuda")
    assert config.memory_bytes == 16 * 1024**3
    assert deployment["ray_actor_options"]["num_gpus"] == 1


def test_a_gpu_worker_gets_its_node_its_toleration_and_its_limit() -> None:
    group = worker_group(resolved(using=pool(**GPU_POOL)))
    spec = group["template"]["spec"]
    assert spec["nodeSelector"] == {"gpu": "l4"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    resources = spec["containers"][0]["resources"]
    assert resources["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert resources["requests"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert group["rayStartParams"]["num-gpus"] == "1"


def test_a_cpu_worker_asks_for_no_accelerator() -> None:
    group = worker_group(resolved())
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"] == {"memory": "2Gi"}
    assert "num-gpus" not in group["rayStartParams"]


def test_a_replica_and_its_group_name_the_same_ray_resource() -> None:
    """KubeRay takes the parameter as a shell word: JSON within a quoted string."""
    made = revision()
    offered = json.loads(json.loads(made.group["rayStartParams"]["resources"]))
    assert made.data["application"]["deployments"][0]["ray_actor_options"]["resources"] == offered


def test_pods_are_hardened_and_read_models_only() -> None:
    group = worker_group(resolved())
    head = ray_cluster(cluster(), PLATFORM)["spec"]["headGroupSpec"]
    for template in (group["template"], head["template"]):
        (container,) = template["spec"]["containers"]
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounts = {m["mountPath"]: m for m in group["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["/models/models"]["readOnly"]
    assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_each_variable_is_there_once_and_what_the_operator_needs_wins() -> None:
    """The API server refuses a name that is there twice."""
    mine = {"name": "TOKEN", "secretKeyRef": {"name": "hub", "key": "token"}}
    users = [{"name": name, "value": "of the user"} for name in ("HOME", "HTTP_PROXY", "SSL_CERT_FILE", "REGION")]
    runtime = cluster(
        env=[*users, mine], proxy={"httpProxy": "http://proxy:3128"}, caBundle={"name": "ca", "key": "ca.pem"}
    ).spec.runtime
    env = ray_environment(runtime)
    values = {variable["name"]: variable.get("value") for variable in env}
    assert len(env) == len(values)
    assert SERVE_ENV.items() <= values.items()
    assert values["HTTP_PROXY"] == values["http_proxy"] == "http://proxy:3128"
    assert values["SSL_CERT_FILE"] == values["REQUESTS_CA_BUNDLE"] != "of the user"
    assert (values["REGION"], values["TOKEN"]) == ("of the user", None)


@given(pool_name=NAMES, shape=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?", fullmatch=True))
def test_names_of_groups_stay_short(pool_name: str, shape: str) -> None:
    using = pool(pool_name, shapes=[{"name": shape, "cpu": "1", "memory": "1Gi"}])
    assert len(worker_group(resolved(using=using))["groupName"]) <= 40


@pytest.mark.parametrize(
    "other",
    [
        resolved(on=cluster(image="serving:2")),
        resolved(on=cluster(env=[{"name": "A", "value": "1"}])),
        resolved(on=cluster(priorityClassName="high")),
        resolved(on=cluster(imagePullSecrets=["registry"])),
        resolved(using=pool(nodeSelector={"disk": "fast"})),
        resolved(service(resources={"memory": "4Gi"})),
        resolved(platform=replace(PLATFORM, image_pull_policy="Always")),
    ],
    ids=["image", "env", "priority", "pull secrets", "selector", "shape", "pull policy"],
)
def test_whatever_differs_is_another_group(other: Any) -> None:
    assert worker_group(other)["groupName"] != worker_group(resolved())["groupName"]


def test_services_alike_share_a_group() -> None:
    assert worker_group(resolved(service("pvc://models/other"))) == worker_group(resolved())


def test_only_what_the_user_wrote_names_the_ray_cluster() -> None:
    name = ray_cluster_name(cluster())
    assert ray_cluster_name(cluster(volumes=[{"claim": "models"}, {"claim": "more"}])) == name
    assert ray_cluster_name(cluster(image="serving:2")) != name
    own = ServingCluster.model_validate(
        {**cluster_manifest(), "spec": {"runtime": cluster_manifest()["spec"]["runtime"]}}
    )
    assert ray_cluster_name(own) == name, "who may use it is no concern of the head's"


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ({"highAvailability": True}, True),
        ({"redis": {}}, True),
        ({"redis": {"storage": {"size": "2Gi"}}}, True),
        ({"highAvailability": False}, False),
        ({"redis": {"address": "redis:6379"}}, False),
    ],
)
def test_a_cluster_of_an_earlier_release_is_moved_by_another_redis_only(spec: Any, same: bool) -> None:
    manifest = cluster_manifest()
    changed = ServingCluster.model_validate({**manifest, "spec": {**manifest["spec"], **spec}})
    assert (ray_cluster_name(changed) == ray_cluster_name(cluster())) is same


def test_the_head_gets_no_variable_that_kuberay_sets_and_workers_keep_it() -> None:
    """KubeRay takes no RayCluster with Redis whose head names REDIS_PASSWORD itself."""
    mine = [{"name": "REDIS_PASSWORD", "value": "of the model's own database"}]
    head = ray_cluster(cluster(env=mine), PLATFORM)["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    worker = worker_group(resolved(on=cluster(env=mine)))["template"]["spec"]["containers"][0]
    assert "REDIS_PASSWORD" not in [variable["name"] for variable in head["env"]]
    assert "REDIS_PASSWORD" in [variable["name"] for variable in worker["env"]]


def test_workers_outlive_the_head_only_where_it_keeps_its_state() -> None:
    manifest = cluster_manifest()
    alone = ServingCluster.model_validate({**manifest, "spec": {**manifest["spec"], "highAvailability": False}})
    for of, timeouts in ((cluster(), ["86400"]), (alone, [])):
        container = worker_group(resolved(on=of))["template"]["spec"]["containers"][0]
        env = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert [v for k, v in env.items() if k == "RAY_gcs_rpc_server_reconnect_timeout_s"] == timeouts


def test_the_head_runs_no_model_and_autoscaling_is_ours() -> None:
    spec = ray_cluster(cluster(), PLATFORM)["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["authOptions"] == {"mode": "token"}
    assert (spec["enableInTreeAutoscaling"], spec["autoscalerOptions"]["version"]) == (True, "v2")


GROUPS = st.lists(st.sampled_from("abcdef"), unique=True)


@given(standing=GROUPS, wanted=GROUPS, populated=st.sets(st.sampled_from("abcdef")))
def test_groups_keep_their_order_and_what_ray_scaled(
    standing: list[str], wanted: list[str], populated: set[str]
) -> None:
    live = {
        "spec": {"workerGroupSpecs": [{"groupName": n, "replicas": 3, "scaleStrategy": {"x": n}} for n in standing]}
    }
    groups = [sized({"groupName": name, "template": name}, max_workers=5) for name in wanted]
    base = {"spec": {"rayVersion": "2.60.0"}}
    before = copy.deepcopy((base, live, groups))
    left: dict[str, list[str]] = {name: [] for name in populated}
    merged = with_groups(base, live, groups, left)["spec"]["workerGroupSpecs"]
    names = [group["groupName"] for group in merged]
    assert (base, live, groups) == before, "an argument was changed"
    assert set(names) == {*wanted, *(n for n in standing if n in populated)}
    assert [n for n in names if n in standing] == [n for n in standing if n in names]
    for group in merged:
        if group["groupName"] in standing:
            assert (group["replicas"], group["scaleStrategy"]) == (3, {"x": group["groupName"]})
        else:
            assert group["replicas"] == 0
    again = with_groups(base, {"spec": {"workerGroupSpecs": merged}}, groups, left)
    assert again["spec"]["workerGroupSpecs"] == merged


def test_a_cluster_without_anything_standing_gets_its_groups() -> None:
    merged = with_groups({"spec": {}}, None, [{"groupName": "b"}, {"groupName": "a"}], {})
    assert [group["groupName"] for group in merged["spec"]["workerGroupSpecs"]] == ["a", "b"]


def test_pods_that_never_started_leave_with_the_last_service_of_their_group() -> None:
    """No node took them, and Ray's autoscaler waits for them without end."""
    live = {"spec": {"workerGroupSpecs": [{"groupName": "vast", "replicas": 2}]}}
    (group,) = with_groups({"spec": {}}, live, [], {"vast": ["vast-1"]})["spec"]["workerGroupSpecs"]
    assert group == {"groupName": "vast", "replicas": 1, "scaleStrategy": {"workersToDelete": ["vast-1"]}}
    told = {"spec": {"workerGroupSpecs": [group]}}
    (again,) = with_groups({"spec": {}}, told, [], {"vast": ["vast-1"]})["spec"]["workerGroupSpecs"]
    assert again == group
    (wanted,) = with_groups({"spec": {}}, live, [{"groupName": "vast"}], {"vast": ["vast-1"]})["spec"][
        "workerGroupSpecs"
    ]
    assert "scaleStrategy" not in wanted


def test_a_worker_drains_before_it_ends_and_a_head_does_not() -> None:
    worker = worker_group(resolved())["template"]["spec"]
    hook = worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[:4] == ["python", "-P", "-m", "modelyard_serving.departure"]
    assert worker["terminationGracePeriodSeconds"] > int(hook[5]) > LONGEST_REQUEST_S
    assert worker["containers"][0]["ports"][0]["containerPort"] == int(hook[4])
    head = ray_cluster(cluster(), PLATFORM)["spec"]["headGroupSpec"]["template"]["spec"]
    assert "lifecycle" not in head["containers"][0]
    assert head["terminationGracePeriodSeconds"] <= 5  # its autoscaler takes all of it, and no other head starts before
    assert "lifecycle" not in head["containers"][0]


def test_a_replica_that_stops_gives_its_last_request_all_its_time() -> None:
    """The last one comes when the replica closes its door."""
    for timeout in ("1s", "24h"):
        made = new_revision(resolved(service(requestTimeout=timeout)), 1)
        (deployment,) = made.data["application"]["deployments"]
        door_closes_s = float(SERVE_ENV["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"])
        assert deployment["graceful_shutdown_timeout_s"] > door_closes_s + made.request_timeout_s


def test_what_outlasts_requests_outlasts_the_longest_there_may_be() -> None:
    longest_s = new_revision(resolved(service(requestTimeout="24h")), 1).request_timeout_s
    assert longest_s == LONGEST_REQUEST_S
    assert float(SERVE_ENV["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > longest_s
    assert float(SERVE_ENV["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"]) >= longest_s
    assert (
        ChartValues().gateway.termination_grace_period_seconds > longest_s + ChartValues().gateway.drain_delay_seconds
    )
    assert longest_s == LONGEST_REQUEST_H * 3600


def test_a_shared_worker_takes_as_many_replicas_as_its_shape_says() -> None:
    shape = {"name": "one", "cpu": "4", "memory": "8Gi"}
    alone, shared = (new_revision(resolved(using=pool(shapes=[{**shape, "replicasPerWorker": n}])), 1) for n in (1, 4))
    assert alone.group == worker_group(resolved(using=pool(shapes=[shape])))
    assert shared.group["groupName"] != alone.group["groupName"]
    offered = json.loads(json.loads(shared.group["rayStartParams"]["resources"]))
    (deployment,) = shared.data["application"]["deployments"]
    assert offered == dict.fromkeys(deployment["ray_actor_options"]["resources"], 4)
    assert list(deployment["ray_actor_options"]["resources"].values()) == [1]
    config = ReplicaConfig.model_validate(deployment["user_config"])
    assert (config.memory_bytes, config.threads) == (2 * 1024**3, 1)


def test_a_shared_gpu_is_divided_in_rays_books() -> None:
    shape = {**GPU_POOL["shapes"][0], "replicasPerWorker": 4}
    made = new_revision(resolved(using=pool(**{**GPU_POOL, "shapes": [shape]})), 1)
    (deployment,) = made.data["application"]["deployments"]
    assert deployment["ray_actor_options"]["num_gpus"] == 0.25
    assert made.group["rayStartParams"]["num-gpus"] == "1"


def cluster_with(**spec: Any) -> ServingCluster:
    found = cluster()
    return found.model_copy(update={"spec": found.spec.model_copy(update=spec)})


def test_worker_pods_wait_in_the_queue_and_the_ray_cluster_does_not() -> None:
    """Kueue would end all its pods when a group is added."""
    label = "kueue.x-k8s.io/queue-name"
    queued = cluster_with(queue_name="team-a")
    made = worker_group(resolved(on=queued))
    assert made["template"]["metadata"]["labels"][label] == "team-a"
    assert label not in json.dumps(ray_cluster(queued, PLATFORM))
    assert label not in json.dumps(worker_group(resolved()))
    assert made["groupName"] != worker_group(resolved())["groupName"]
    assert resolved(on=queued).revision != resolved(on=cluster_with(queue_name="team-b")).revision


def test_a_new_token_is_another_ray_cluster_beside_the_old_one() -> None:
    """KubeRay makes a token for each, and takes it away with it."""
    names = [ray_cluster_name(cluster_with(token_generation=n)) for n in (1, 2, 3)]
    assert len(set(names)) == 3
    assert names[0] == ray_cluster_name(cluster())


def test_serve_does_not_end_a_proxy_that_is_only_slow() -> None:
    for check in ("READY", "HEALTH"):
        assert float(SERVE_ENV[f"RAY_SERVE_PROXY_{check}_CHECK_TIMEOUT_S"]) >= 30


@pytest.mark.parametrize(
    ("cache", "volume", "limit"),
    [
        ({}, {"emptyDir": {"sizeLimit": "20Gi"}}, 20 * 2**30),
        ({"size": "50Gi"}, {"emptyDir": {"sizeLimit": "50Gi"}}, 50 * 2**30),
        ({"claim": "cache"}, {"persistentVolumeClaim": {"claimName": "cache"}}, None),
        ({"claim": "cache", "size": "1Ti"}, {"persistentVolumeClaim": {"claimName": "cache"}}, 2**40),
    ],
    ids=str,
)
def test_workers_of_models_that_are_downloaded_have_the_cache(
    cache: dict[str, Any], volume: dict[str, Any], limit: int | None
) -> None:
    made = new_revision(resolved(service("hf://acme/tiny"), on=cluster_with_cache(**cache)), 1)
    pod = made.group["template"]["spec"]
    assert pod["volumes"][-1] == {"name": "model-cache", **volume}
    assert pod["containers"][0]["volumeMounts"][-1] == {"name": "model-cache", "mountPath": "/model-cache"}
    config = made.data["application"]["deployments"][0]["user_config"]
    assert config["cache"] == {"path": "/model-cache"} | ({"limit_bytes": limit} if limit else {})
    assert config["model"]["uri"] == "hf://acme/tiny"


def test_workers_of_models_on_claims_have_no_cache() -> None:
    with_cache, without = (new_revision(resolved(on=on), 1) for on in (cluster_with_cache(size="50Gi"), cluster()))
    assert with_cache.data == without.data
    assert "cache" not in without.data["application"]["deployments"][0]["user_config"]
