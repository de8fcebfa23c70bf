"""The status of an AcceleratorPool."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard_operator.api.accelerator_pool import AcceleratorPool, AcceleratorPoolStatus, NamespaceUse, PoolLimits
from modelyard_operator.api.conditions import ConditionType, Reason
from modelyard_operator.status.conditions import condition, stamped

MAX_NAMESPACES = 500
"""Namespaces that a status tells of; an object has to stay below what etcd takes."""


@dataclass(frozen=True)
class PoolUse:
    """Workers in use."""

    workers: int
    namespaces: Mapping[str, int]


def pool_status(
    pool: AcceleratorPool,
    nodes: Iterable[Mapping[str, Any]],
    *,
    services: int,
    use: PoolUse | None,
    now: datetime,
) -> AcceleratorPoolStatus:
    """The status that `pool` should have, given all nodes of the cluster; without `use` as it was told last."""
    matching = sum(_matches(node, pool.spec.node_selector) for node in nodes)
    if matching:
        ready = condition(ConditionType.READY, True, Reason.ACCEPTED, f"{matching} nodes match spec.nodeSelector.")
    else:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(pool.spec.node_selector.items()))
        ready = condition(
            ConditionType.READY,
            False,
            Reason.NO_NODE_FITS,
            f"No node has the labels of spec.nodeSelector ({labels}). Label nodes, correct the selector, "
            "or let the cluster's autoscaler bring such a node when a worker asks for it.",
        )
    return AcceleratorPoolStatus(
        observed_generation=pool.metadata.generation,
        conditions=stamped((ready,), pool.status.conditions, generation=pool.metadata.generation, now=now),
        nodes=matching,
        services=services,
        **_use(pool, use),
    )


def _use(pool: AcceleratorPool, use: PoolUse | None) -> dict[str, Any]:
    limits = pool.spec.limits or PoolLimits.model_construct()
    if use is None:
        old = pool.status
        return {
            "workers": old.workers,
            "max_workers": old.max_workers,
            "usage": old.usage,
            "namespaces": old.namespaces,
        }
    named = {each.name: each.max_workers for each in limits.namespaces}
    namespaces = tuple(
        NamespaceUse(
            name=name,
            workers=use.namespaces.get(name, 0),
            max_workers=named.get(name, limits.max_workers_per_namespace),
        )
        for name in sorted({*use.namespaces, *named})
    )
    usage = f"{use.workers}/{limits.max_workers}" if limits.max_workers is not None else str(use.workers)
    return {
        "workers": use.workers,
        "max_workers": limits.max_workers,
        "usage": usage,
        "namespaces": namespaces[:MAX_NAMESPACES],
    }


def _matches(node: Mapping[str, Any], selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())
