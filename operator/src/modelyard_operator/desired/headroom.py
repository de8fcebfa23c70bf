"""Whether more workers fit beside what runs: what the pool allows, what quotas leave, what nodes have free.

Numbers in, a decision and words out. A surge that does not fit is not begun: half of it would hold workers that
neither it nor anybody else can use.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from modelyard_operator.api.accelerator_pool import AcceleratorPool, Toleration
from modelyard_operator.api.quantity import format_bytes
from modelyard_operator.observed.capacity import Amounts, NodeFacts, QuotaFacts, amounts, pod_requests

_SHOWN_NODES = 3
_WAITING_FOR_RAY = amounts({"cpu": "200m", "memory": "256Mi"})
"""What KubeRay's own init container asks for (1.6, common/pod.go)."""


@dataclass(frozen=True)
class Worker:
    """One worker pod of a group."""

    pool: str
    shape: str
    group: str
    requests: Amounts
    limits: Amounts
    containers: tuple[tuple[Amounts, Amounts], ...]
    """Requests and limits of each container."""
    priority_class: str = ""
    replicas: int = 1
    """Replicas that share it."""


def worker_of(pool: str, shape: str, group: dict[str, Any]) -> Worker:
    """The worker that a rendered group makes."""
    spec = group["template"]["spec"]
    resources = [container.get("resources") or {} for container in spec["containers"]]
    limits_only = {"containers": [{"resources": {"limits": each.get("limits")}} for each in resources]}
    return Worker(
        pool=pool,
        shape=shape,
        group=group["groupName"],
        requests=pod_requests(spec),
        limits=pod_requests(limits_only),
        containers=tuple((amounts(each.get("requests")), amounts(each.get("limits"))) for each in resources),
        priority_class=spec.get("priorityClassName", ""),
    )


def with_init(worker: Worker) -> Worker:
    """`worker` with the init container that KubeRay gives it: the pod counts for the larger of both."""
    init = {name: amount for name, amount in _WAITING_FOR_RAY.items() if name in worker.requests}
    larger = {name: max(amount, init.get(name, amount)) for name, amount in worker.requests.items()}
    return replace(worker, requests=larger)


@dataclass(frozen=True)
class Held:
    """The workers of the revision that serves now, as far as taking replicas of it down gives room."""

    replicas: int = 0
    same_pool: bool = False
    """Whether its workers count against the same limit."""
    same_limits: bool = False
    """Whether its workers count against the same `spec.limits`."""
    same_group: bool = False
    """Whether its workers can run the new replicas as they are."""
    requests: Amounts = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    """The node of each of its workers."""

    def less(self, keep: int) -> "Held":
        """What is given back where `keep` replicas stay."""
        return replace(self, replicas=max(0, self.replicas - keep), nodes=self.nodes[keep:])


@dataclass(frozen=True)
class Capacity:
    """What bounds more workers of a group."""

    limit: int
    """Workers that the pool allows in the group."""
    used: int
    """Replicas that are to run on them."""
    share: int | None = None
    """Replicas that the pool's limits over all clusters leave; None: it has none."""
    idle: int = 0
    """Replicas that workers of the group could take now."""
    quotas: tuple[QuotaFacts, ...] = ()
    nodes: tuple[NodeFacts, ...] | None = None
    """Those that the pool's workers may go to; None where nodes do not decide."""


@dataclass(frozen=True)
class Room:
    """How a wanted revision may come up."""

    beside: bool = True
    """Whether all its replicas fit beside the one that serves."""
    keep: int | None = None
    """Replicas that the old one keeps while it makes place; None: all of them."""
    bring: int | None = None
    """Replicas of the new one that then fit; None: it may not or cannot take the old one's place."""


def room(worker: Worker, replicas: int, capacity: Capacity, held: Held) -> Room:
    """The room for `replicas` more workers, and the best way to share where it is not enough.

    Of all ways to share, the one that leaves most replicas serving at the worst moment.
    """
    if most(worker, capacity, held.less(held.replicas)) >= replicas:
        return Room()
    best: tuple[int, int] | None = None
    for keep in range(held.replicas, -1, -1):
        bring = min(replicas, most(worker, capacity, held.less(keep)))
        if bring >= 1 and (best is None or min(keep, bring) > min(best)):
            best = keep, bring
        if bring >= keep and best is not None:
            break
    if best is None:
        return Room(beside=False)
    return Room(beside=False, keep=None if best[0] == held.replicas else best[0], bring=best[1])


def most(worker: Worker, capacity: Capacity, given: Held) -> int:
    """How many replicas on workers of this kind fit now, once `given` is given back."""
    allowed = capacity.limit * worker.replicas - capacity.used + (given.replicas if given.same_pool else 0)
    if capacity.share is not None:
        allowed = min(allowed, capacity.share + (given.replicas if given.same_limits else 0))
    there = capacity.idle + (given.replicas if given.same_group else 0)
    return max(0, min(allowed, there + worker.replicas * _new_pods(worker, capacity, given)))


def _new_pods(worker: Worker, capacity: Capacity, given: Held) -> int:
    bounds = [10**6]
    back = Held() if given.same_group else given
    for quota in capacity.quotas:
        if covers(quota, worker):
            bounds += [_fitting(_left(quota, key, back), each) for key, each in _charged(quota, worker).items()]
    if capacity.nodes is not None:
        bounds.append(sum(_on_node(node, worker, back) for node in capacity.nodes))
    return min(bounds)


def _fitting(left: Decimal, each: Decimal) -> int:
    return 10**6 if each <= 0 else max(0, int(left // each))


def _on_node(node: NodeFacts, worker: Worker, back: Held) -> int:
    again = back.nodes.count(node.name)
    asked = {**worker.requests, "pods": Decimal(1)}
    free = {
        name: node.free.get(name, Decimal(0))
        + again * (Decimal(1) if name == "pods" else back.requests.get(name, Decimal(0)))
        for name in asked
    }
    return min(_fitting(free[name], each) for name, each in asked.items())


def takes(node: NodeFacts, pool: AcceleratorPool) -> bool:
    """Whether workers of `pool` may go to `node`: its labels match and every taint that keeps pods off is tolerated."""
    if not node.takes_pods or any(node.labels.get(k) != v for k, v in pool.spec.node_selector.items()):
        return False
    hard = [taint for taint in node.taints if taint.get("effect") in ("NoSchedule", "NoExecute")]
    return all(any(_tolerates(toleration, taint) for toleration in pool.spec.tolerations) for taint in hard)


def _tolerates(toleration: Toleration, taint: Any) -> bool:
    if toleration.effect not in (None, taint.get("effect")) or toleration.key not in (None, taint.get("key")):
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == (taint.get("value") or "")


def covers(quota: QuotaFacts, worker: Worker) -> bool:
    """Whether `quota` counts workers: they have requests, no deadline, and perhaps a priority class."""
    return all(_in_scope(scope, worker) for scope in quota.scopes)


def _in_scope(scope: Any, worker: Worker) -> bool:
    name, operator, values = scope.get("scopeName"), scope.get("operator"), scope.get("values") or ()
    if name == "PriorityClass":
        named = worker.priority_class
        return {"Exists": bool(named), "DoesNotExist": not named, "In": named in values, "NotIn": named not in values}[
            operator
        ]
    return name in ("NotBestEffort", "NotTerminating")


def charged_amount(key: str, worker: Worker) -> Decimal | None:
    """What one worker counts for under a quota's `key`; None where the key is not about pods."""
    if key in ("pods", "count/pods"):
        return Decimal(1)
    if key.startswith("limits."):
        return worker.limits.get(key.removeprefix("limits."))
    return worker.requests.get(key.removeprefix("requests."))


def _charged(quota: QuotaFacts, worker: Worker) -> dict[str, Decimal]:
    charged = {key: charged_amount(key, worker) for key in quota.hard}
    return {key: amount for key, amount in charged.items() if amount is not None}


def _left(quota: QuotaFacts, key: str, back: Held) -> Decimal:
    left = quota.hard[key] - quota.used.get(key, Decimal(0))
    if key in ("pods", "count/pods"):
        return left + back.replicas
    return left + back.replicas * back.requests.get(key.removeprefix("requests.").removeprefix("limits."), Decimal(0))


def shortage(worker: Worker, replicas: int, capacity: Capacity) -> str:
    """What there is too little of for `replicas` more workers, with numbers; empty where they fit."""
    if most(worker, capacity, Held()) >= replicas:
        return ""
    lacks = []
    if capacity.limit * worker.replicas - capacity.used < replicas:
        busy = _workers(worker, capacity.used)
        lacks.append(f"AcceleratorPool {worker.pool} has {busy} of {capacity.limit} workers in use")
    if capacity.share is not None and capacity.share < replicas:
        lacks.append(f"spec.limits of AcceleratorPool {worker.pool} leave {capacity.share} more")
    pods = _workers(worker, max(0, replicas - capacity.idle))
    for quota in capacity.quotas:
        for key, each in _charged(quota, worker).items() if covers(quota, worker) else ():
            if _fitting(_left(quota, key, Held()), each) < pods:
                left = amount_text(key, max(Decimal(0), _left(quota, key, Held())))
                lacks.append(f"ResourceQuota {quota.name} leaves {key} {left} of {amount_text(key, quota.hard[key])}")
    if capacity.nodes is not None and sum(_on_node(node, worker, Held()) for node in capacity.nodes) < pods:
        lacks.append(_nodes_text(worker, capacity.nodes))
    return f"needs {_workers_text(worker, _workers(worker, replicas))}; {'; '.join(lacks)}"


def _workers(worker: Worker, replicas: int) -> int:
    return -(-replicas // worker.replicas)


def _workers_text(worker: Worker, count: int) -> str:
    asked = ", ".join(f"{amount_text(name, amount)} {name}" for name, amount in sorted(worker.requests.items()))
    each = " each" if count > 1 else ""
    return f"{count} more {'worker' if count == 1 else 'workers'} {worker.pool}/{worker.shape} ({asked}{each})"


def _nodes_text(worker: Worker, nodes: Iterable[NodeFacts]) -> str:
    fullest = sorted(nodes, key=lambda node: (-node.free.get("memory", Decimal(0)), node.name))
    if not fullest:
        return "no node matches the pool's nodeSelector and tolerations and takes pods"
    told = []
    for node in fullest[:_SHOWN_NODES]:
        free = ", ".join(
            f"{amount_text(name, node.free.get(name, Decimal(0)))} {name}" for name in sorted(worker.requests)
        )
        told.append(f"node {node.name} has {free} free")
    rest = len(fullest) - len(told)
    return "; ".join(told) + (f"; {rest} other nodes have less" if rest else "")


def amount_text(name: str, amount: Decimal) -> str:
    """An amount for people, by the resource's or the quota key's name."""
    if name.endswith(("memory", "storage")):
        return format_bytes(int(amount))
    if name.endswith("cpu"):
        return f"{int(amount * 1000)}m" if amount % 1 else str(int(amount))
    return str(int(amount))
