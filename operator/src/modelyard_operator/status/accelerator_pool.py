"""The status of an AcceleratorPool."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from modelyard_operator.api.accelerator_pool import AcceleratorPool, AcceleratorPoolStatus
from modelyard_operator.api.conditions import ConditionType, Reason
from modelyard_operator.status.conditions import condition, stamped


def pool_status(
    pool: AcceleratorPool, nodes: Iterable[Mapping[str, Any]], *, services: int, now: datetime
) -> AcceleratorPoolStatus:
    """The status that `pool` should have, given all nodes of the cluster."""
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
    )


def _matches(node: Mapping[str, Any], selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())
