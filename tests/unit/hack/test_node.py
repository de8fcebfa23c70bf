import json
from pathlib import Path

import pytest

from modelyard_hack import cgroups, node
from modelyard_hack.accelerators import FakeAccelerators
from modelyard_hack.layout import StateFolder
from modelyard_hack.volumes import volume_objects

V1 = """tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
UNIFIED = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        (V1, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"]),
        (V1 + UNIFIED, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"]),
        (V2, ["/sys/fs/cgroup"]),
    ],
)
def test_finds_every_hierarchy_that_runc_writes_to(mounts: str, expected: list[str]) -> None:
    assert cgroups.hierarchies(mounts) == [Path(each) for each in expected]


def test_mounts_are_undone_from_the_deepest() -> None:
    mounts = "a /state/x a\nb /state/x/y b\nc /statement c\nd /state d\n"
    assert node.mounts_below(mounts, Path("/state")) == ["/state/x/y", "/state/x"]


def test_every_path_of_the_node_is_inside_its_state() -> None:
    state = StateFolder(Path("/state"))
    config = json.dumps(node.kubelet_config(state, cgroup_v1=True)) + node.containerd_config(state)
    assert "/var/" not in config + json.dumps(node.cni_config(state))
    assert 'root = "/state/containerd/root"' in config


@pytest.mark.parametrize("cgroup_v1", [True, False])
def test_the_kubelet_accepts_the_old_cgroups_only_where_they_are(cgroup_v1: bool) -> None:
    config = node.kubelet_config(StateFolder(Path("/state")), cgroup_v1=cgroup_v1)
    assert ("failCgroupV1" in config) is cgroup_v1


def test_a_volume_is_bound_by_name_in_both_directions() -> None:
    _, volume, claim = volume_objects("team-a", "models", Path("/data"))
    assert volume["spec"]["claimRef"] == {"namespace": "team-a", "name": "models"}  # type: ignore[index]
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]  # type: ignore[index]
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"]  # type: ignore[index]
    assert volume["spec"]["accessModes"] == ["ReadOnlyMany"]  # type: ignore[index]


def test_accelerators_are_taken_away_by_null() -> None:
    fake = FakeAccelerators("nvidia.com/gpu", 2)
    assert fake.status_patch(present=True)["status"] == {
        "capacity": {"nvidia.com/gpu": "2"},
        "allocatable": {"nvidia.com/gpu": "2"},
    }
    assert fake.status_patch(present=False)["status"] == {
        "capacity": {"nvidia.com/gpu": None},
        "allocatable": {"nvidia.com/gpu": None},
    }
