"""Ray pods as the API server shows them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from modelyard_operator.api.conditions import Reason
from modelyard_operator.observed.pods import PodFacts, parse_leaving, parse_pods

SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:02Z"}
READY = {"type": "Ready", "status": "True"}
RUNNING = {"name": "ray-worker", "image": "serving:1", "state": {"running": {"startedAt": "2026-01-01T00:00:09Z"}}}


def pod(node_type: str = "worker", deleting: bool = False, **status: Any) -> PodFacts | None:
    metadata = {
        "name": "shared-1-w-x7k2p",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"ray.io/group": "cpu-small-1", "ray.io/node-type": node_type, "ray.io/cluster": "shared-1"},
        **({"deletionTimestamp": "2026-01-01T00:01:00Z"} if deleting else {}),
    }
    found = parse_pods([{"metadata": metadata, "status": status}])
    return found[0] if found else None


def waiting(reason: str, message: str = "", container: str = "containerStatuses") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"conditions": [SCHEDULED], container: [{"name": "ray-worker", "image": "reg/serving:9", "state": state}]}


UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    }],
}  # fmt: skip
OOM_LAST = {"name": "w", "state": {"running": {"startedAt": "2026-01-01T00:00:09Z"}},
            "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (UNSCHEDULABLE, Reason.NO_NODE_FITS, "1 Insufficient nvidia.com/gpu"),
        (waiting("ErrImagePull", "not found"), Reason.IMAGE_NOT_FOUND, "reg/serving:9 cannot be pulled: not found"),
        (waiting("ImagePullBackOff"), Reason.IMAGE_NOT_FOUND, "imagePullSecrets"),
        (waiting("InvalidImageName"), Reason.IMAGE_NOT_FOUND, "reg/serving:9"),
        (waiting("ImagePullBackOff", container="initContainerStatuses"), Reason.IMAGE_NOT_FOUND, "reg/serving:9"),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), Reason.POD_FAILED, 'secret "x" not found'),
        ({"conditions": [SCHEDULED], "containerStatuses": [OOM_LAST]}, Reason.OUT_OF_MEMORY, "spec.resources.memory"),
        ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on disk.", "conditions": [SCHEDULED]},
         Reason.POD_FAILED, "The node was low on disk."),
    ],
    ids=["no node", "pull error", "pull backoff", "image name", "init container", "missing secret", "out of memory",
         "evicted"],
)  # fmt: skip
def test_what_keeps_a_pod_from_running_is_told(status: dict[str, Any], reason: Reason, words: str) -> None:
    found = pod(**status)
    assert found is not None
    assert found.trouble is not None
    assert found.trouble.reason is reason
    assert words in found.trouble.message


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, Reason.WAITING_FOR_WORKER),
        ({"conditions": [SCHEDULED]}, Reason.PULLING_IMAGE),
        (waiting("ContainerCreating"), Reason.PULLING_IMAGE),
        ({"conditions": [SCHEDULED], "containerStatuses": [RUNNING]}, None),
    ],
    ids=["no node yet", "no container yet", "the container is made", "running"],
)
def test_what_a_pod_waits_for_while_all_is_well(status: dict[str, Any], expected: Reason | None) -> None:
    found = pod(**status)
    assert found is not None
    assert (found.waiting, found.trouble) == (expected, None)


def test_a_ready_worker_has_an_address_and_times_and_no_trouble_left() -> None:
    found = pod(phase="Running", podIP="10.1.0.7", conditions=[SCHEDULED, READY], containerStatuses=[OOM_LAST])
    assert found == PodFacts(
        name="shared-1-w-x7k2p", group="cpu-small-1", is_head=False, ready=True, address="10.1.0.7",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        scheduled=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC),
        started=datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC),
    )  # fmt: skip


def test_a_pod_on_its_way_out_does_not_count() -> None:
    assert pod(deleting=True, phase="Running", podIP="10.1.0.7") is None


def test_a_pod_that_is_over_answers_nobody() -> None:
    found = pod(phase="Succeeded", podIP="10.1.0.7")
    assert found is not None
    assert found.address == ""


def test_the_head_is_known_by_its_label() -> None:
    found = pod("head", phase="Running")
    assert found is not None
    assert found.is_head


def leaving(pre_stop: bool = True, node_type: str = "worker", deleting: bool = True, **status: Any) -> bool:
    hook = {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}} if pre_stop else {}
    metadata: dict[str, Any] = {"name": "w", "labels": {"ray.io/node-type": node_type}}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    return bool(parse_leaving([{"metadata": metadata, "spec": {"containers": [hook]}, "status": status}]))


def test_a_worker_that_drains_before_it_ends_serves_while_it_leaves() -> None:
    up: dict[str, Any] = {"conditions": [SCHEDULED, READY], "phase": "Running"}
    assert leaving(**up)
    assert not leaving(pre_stop=False, **up)
    assert not leaving(deleting=False, **up)
    assert not leaving(node_type="head", **up)
    assert not leaving(conditions=[SCHEDULED], phase="Running")


def test_a_pod_that_waits_in_a_queue_is_told_from_one_that_waits_for_a_node() -> None:
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gated"}
    found = pod(phase="Pending", conditions=[gated])
    assert found is not None
    assert (found.waiting, found.trouble) == (Reason.QUEUED, None)
