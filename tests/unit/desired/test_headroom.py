"""Room for more workers: each bound alone, how a place is shared, and the words with numbers."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.desired.samples import GPU_POOL, pool, resolved

from modelyard_operator.api.conditions import Reason
from modelyard_operator.desired.headroom import (
    Capacity,
    Held,
    Room,
    covers,
    most,
    room,
    shortage,
    takes,
    with_init,
    worker_of,
)
from modelyard_operator.desired.namespace_limits import refusal, with_defaults
from modelyard_operator.desired.revision import new_revision
from modelyard_operator.observed.capacity import (
    NodeFacts,
    QuotaFacts,
    amounts,
    parse_limit_ranges,
    parse_nodes,
    parse_quotas,
    parse_requests,
)

WORKER = worker_of("cpu", "small", new_revision(resolved(), 1).group)
"""1 CPU and 2Gi."""
HERE: Any = {"same_pool": True, "same_group": True}
PLENTY = Capacity(limit=10, used=1)


def node(name: str = "a", taints: Any = (), **free: str) -> NodeFacts:
    return NodeFacts(name, {"gpu": "l4"}, tuple(taints), takes_pods=True, free=amounts({"pods": "110", **free}))


def quota(scopes: Any = (), used: Any = None, **hard: str) -> QuotaFacts:
    named = {key.replace("__", "."): text for key, text in hard.items()}
    return QuotaFacts("team", amounts(named), amounts(used), tuple(scopes))


def test_a_worker_asks_for_what_its_group_says() -> None:
    assert WORKER.requests == {"cpu": 1, "memory": 2 * 2**30}
    assert WORKER.limits == {"memory": 2 * 2**30}
    small = replace(WORKER, requests=amounts({"cpu": "100m", "memory": "2Gi"}))
    assert with_init(small).requests == amounts({"cpu": "200m", "memory": "2Gi"})


@pytest.mark.parametrize(
    ("capacity", "fitting"),
    [
        (Capacity(limit=3, used=3), 0),
        (Capacity(limit=3, used=1), 2),
        (Capacity(limit=3, used=5), 0),
        (replace(PLENTY, quotas=(quota(pods="4", used={"pods": "1"}),)), 3),
        (replace(PLENTY, quotas=(quota(requests__memory="6Gi", used={"requests.memory": "3Gi"}),)), 1),
        (replace(PLENTY, quotas=(quota(memory="6Gi", used={"memory": "3Gi"}),)), 1),
        (replace(PLENTY, quotas=(quota(limits__memory="6Gi"), quota(pods="5"))), 3),
        (replace(PLENTY, quotas=(quota(configmaps="0"),)), 9),
        (replace(PLENTY, nodes=(node(cpu="4", memory="64Gi"), node("b", cpu="8", memory="5Gi"))), 6),
        (replace(PLENTY, nodes=(node(cpu="4", memory="64Gi", pods="1"),)), 1),
        (replace(PLENTY, nodes=()), 0),
        (replace(PLENTY, nodes=(), idle=2), 2),
        (Capacity(limit=3, used=2, idle=5), 1),
        (Capacity(limit=9, used=2, share=3), 3),
        (Capacity(limit=3, used=2, share=3), 1),
    ],
)
def test_how_many_fit(capacity: Capacity, fitting: int) -> None:
    assert most(WORKER, capacity, Held()) == fitting
    assert shortage(WORKER, fitting + 1, capacity) != ""
    assert shortage(WORKER, fitting, capacity) == ""


@pytest.mark.parametrize(
    ("scope", "counts"),
    [
        ({"scopeName": "NotTerminating", "operator": "Exists"}, True),
        ({"scopeName": "NotBestEffort", "operator": "Exists"}, True),
        ({"scopeName": "BestEffort", "operator": "Exists"}, False),
        ({"scopeName": "Terminating", "operator": "Exists"}, False),
        ({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}, True),
        ({"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}, False),
        ({"scopeName": "PriorityClass", "operator": "DoesNotExist"}, False),
    ],
)
def test_a_quota_counts_the_pods_of_its_scope(scope: Any, counts: bool) -> None:
    assert covers(quota(scopes=[scope], pods="1"), replace(WORKER, priority_class="high")) is counts


def test_what_is_short_is_said_with_numbers() -> None:
    capacity = Capacity(
        limit=3, used=3,
        quotas=(quota(requests__memory="4Gi", used={"requests.memory": "3.5Gi"}),),
        nodes=(node("x", cpu="250m", memory="512Mi"),),
    )  # fmt: skip
    told = shortage(WORKER, 1, capacity)
    assert told == (
        "needs 1 more worker cpu/small (1 cpu, 2Gi memory); AcceleratorPool cpu has 3 of 3 workers in use; "
        "ResourceQuota team leaves requests.memory 512Mi of 4Gi; node x has 250m cpu, 512Mi memory free"
    )
    assert "no node matches" in shortage(WORKER, 1, replace(PLENTY, nodes=()))
    many = tuple(node(name, cpu="0", memory=f"{at}Mi") for at, name in enumerate("abcde"))
    assert "node e has" in shortage(WORKER, 1, replace(PLENTY, nodes=many))
    assert "2 other nodes have less" in shortage(WORKER, 1, replace(PLENTY, nodes=many))


def test_room_beside_changes_nothing() -> None:
    assert room(WORKER, 3, Capacity(limit=6, used=3), Held(3, **HERE)) == Room()


@pytest.mark.parametrize(
    ("replicas", "limit", "expected"),
    [
        (1, 1, Room(beside=False, keep=0, bring=1)),
        (2, 2, Room(beside=False, keep=1, bring=1)),
        (2, 3, Room(beside=False, keep=None, bring=1)),
        (3, 3, Room(beside=False, keep=2, bring=1)),
        (4, 4, Room(beside=False, keep=2, bring=2)),
        (4, 6, Room(beside=False, keep=3, bring=3)),
    ],
)
def test_a_place_is_shared_so_that_most_serve_at_the_worst_moment(replicas: int, limit: int, expected: Room) -> None:
    assert room(WORKER, replicas, Capacity(limit=limit, used=replicas), Held(replicas, **HERE)) == expected


def test_another_group_of_the_pool_gives_back_what_the_pools_limits_count() -> None:
    full = Capacity(limit=5, used=0, share=0)
    assert room(WORKER, 2, full, Held(2, same_limits=True)) == Room(beside=False, keep=1, bring=1)
    assert room(WORKER, 2, full, Held(2)) == Room(beside=False)
    assert "spec.limits of AcceleratorPool cpu leave 0 more" in shortage(WORKER, 2, full)


def test_replicas_that_share_a_worker_count_together() -> None:
    shared = replace(WORKER, replicas=4)
    assert most(shared, Capacity(limit=2, used=3), Held()) == 5
    assert most(shared, replace(PLENTY, quotas=(quota(pods="1"),), idle=2), Held()) == 6
    told = shortage(shared, 4, Capacity(limit=1, used=3))
    assert told == ("needs 1 more worker cpu/small (1 cpu, 2Gi memory); AcceleratorPool cpu has 1 of 1 workers in use")


def test_no_place_is_made_where_that_helps_nothing() -> None:
    full = Capacity(limit=2, used=2)
    assert room(WORKER, 1, full, Held(1)) == Room(beside=False)
    assert room(WORKER, 1, full, Held(0, **HERE)) == Room(beside=False)


def test_workers_of_another_group_give_back_their_node_and_quota() -> None:
    capacity = replace(PLENTY, nodes=(node(cpu="0", memory="0"), node("b", cpu="500m", memory="8Gi")))
    there = Held(1, requests=amounts({"cpu": "500m", "memory": "1Gi"}), nodes=("b",))
    elsewhere = replace(there, nodes=("a",))
    assert room(WORKER, 1, capacity, there) == Room(beside=False, keep=0, bring=1)
    assert room(WORKER, 1, capacity, elsewhere) == Room(beside=False)
    tight = replace(PLENTY, quotas=(quota(requests__cpu="2", used={"requests.cpu": "1500m"}),))
    assert room(WORKER, 1, tight, there) == Room(beside=False, keep=0, bring=1)


@given(
    replicas=st.integers(1, 6),
    held=st.integers(0, 6),
    limit=st.integers(0, 12),
    others=st.integers(0, 6),
    same=st.booleans(),
)
def test_a_shared_place_is_never_overdrawn(replicas: int, held: int, limit: int, others: int, same: bool) -> None:
    found = room(WORKER, replicas, Capacity(limit, held + others), Held(held, same_pool=same, same_group=same))
    if found.beside:
        assert others + held + replicas <= limit
    elif found.bring is not None:
        kept = held if found.keep is None else found.keep
        assert 1 <= found.bring <= replicas
        assert others + kept + found.bring <= limit


def test_nodes_of_a_pool() -> None:
    gpu = pool("l4", **GPU_POOL)
    tainted = [{"key": "nvidia.com/gpu", "value": "x", "effect": "NoSchedule"}]
    assert takes(node(taints=tainted), gpu)
    assert not takes(node(taints=tainted), pool())
    assert takes(node(taints=[{"key": "soft", "effect": "PreferNoSchedule"}]), gpu)
    assert not takes(node(taints=[{"key": "other", "effect": "NoExecute"}]), gpu)
    assert not takes(replace(node(), labels={}), gpu)
    assert not takes(replace(node(), takes_pods=False), gpu)


def test_free_is_allocatable_less_requests() -> None:
    def pod(name: str, phase: str = "Running", **spec: Any) -> dict[str, Any]:
        return {
            "metadata": {"namespace": "x", "name": name},
            "spec": {"nodeName": "a", **spec},
            "status": {"phase": phase},
        }

    def asks(cpu: str, **more: Any) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    pods = parse_requests(
        [
            pod("plain", containers=[asks("1"), asks("500m")]),
            pod("large-init", containers=[asks("100m")], initContainers=[asks("2")]),
            pod("sidecar", containers=[asks("100m")], initContainers=[asks("300m", restartPolicy="Always")]),
            pod("limits-only", containers=[{"resources": {"limits": {"cpu": "1"}}}]),
            pod("over", "Succeeded", containers=[asks("8")]),
            {"metadata": {"namespace": "x", "name": "pending"}, "spec": {"containers": [asks("8")]}},
        ]
    )
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "8", "pods": "110"}}
    manifests = [
        {"metadata": {"name": "a"}, "status": ready},
        {"metadata": {"name": "b"}, "status": {**ready, "conditions": []}},
        {"metadata": {"name": "c"}, "status": ready, "spec": {"unschedulable": True}},
    ]
    first, second, third = parse_nodes(manifests, pods)
    assert first.free == {"cpu": Decimal("3.1"), "pods": 106}
    assert [each.takes_pods for each in (first, second, third)] == [True, False, False]


def ranges(kind: str = "Container", **item: Any) -> Any:
    return parse_limit_ranges(
        [
            {
                "metadata": {"name": "small-only"},
                "spec": {"limits": [{"type": kind, **item}, {"type": "PersistentVolumeClaim"}]},
            }
        ]
    )


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"max": {"memory": "1Gi"}}, ["LimitRange small-only", "at most 1Gi", "has 2Gi", "spec.resources", "smaller"]),
        ({"min": {"memory": "4Gi"}}, ["at least 4Gi", "has 2Gi", "larger"]),
        ({"max": {"cpu": "2"}}, ["no limit of cpu", "default"]),
        ({"kind": "Pod", "max": {"memory": "1Gi"}}, ["for each Pod", "at most 1Gi"]),
        ({"max": {"memory": "4Gi"}}, []),
        ({"max": {"cpu": "2"}, "default": {"cpu": "2"}}, []),
        ({"max": {"cpu": "2"}, "default": {"cpu": "3"}}, ["at most 2", "has 3"]),
    ],
)
def test_a_limit_range_that_no_worker_satisfies_refuses_at_once(item: dict[str, Any], words: list[str]) -> None:
    refused = refusal(WORKER, "models", ranges(**item), ())
    if not words:
        assert refused is None
        return
    assert refused is not None
    assert refused.reason is Reason.EXCEEDS_NAMESPACE_LIMITS
    assert [word for word in ["models", "cpu/small", *words] if word not in refused.message] == []


def test_a_quota_that_no_worker_satisfies_refuses_at_once() -> None:
    small = parse_quotas([{"metadata": {"name": "q"}, "spec": {"hard": {"requests.memory": "1Gi"}}}])
    refused = refusal(WORKER, "models", (), small)
    assert refused is not None
    assert "ResourceQuota q has requests.memory 1Gi in all, one worker needs 2Gi" in refused.message
    bounded = (quota(limits__cpu="100"),)
    refused = refusal(WORKER, "models", (), bounded)
    assert refused is not None
    assert "each container needs a limit of cpu" in refused.message
    assert refusal(WORKER, "models", ranges(default={"cpu": "2"}), bounded) is None
    assert with_defaults(WORKER, ranges(default={"cpu": "2"})).limits["cpu"] == 2
    assert refusal(WORKER, "models", (), (quota(scopes=[{"scopeName": "BestEffort"}], pods="0"),)) is None
