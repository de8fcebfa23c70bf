"""LimitRanges and ResourceQuotas that no worker of a shape can ever satisfy: said at once, with the field to change."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from modelyard_operator.api.conditions import Reason
from modelyard_operator.desired.headroom import Worker, amount_text, charged_amount, covers
from modelyard_operator.desired.resolution import Rejection
from modelyard_operator.observed.capacity import Amounts, LimitRangeItem, QuotaFacts


def with_defaults(worker: Worker, ranges: Iterable[LimitRangeItem]) -> Worker:
    """`worker` as the API server stores it: LimitRanges give limits and requests to containers without."""
    containers = list(worker.containers)
    limits = dict(worker.limits)
    for item in ranges:
        if item.kind != "Container":
            continue
        for at, (requests, bounds) in enumerate(containers):
            containers[at] = {**item.default, **item.default_request, **requests}, {**item.default, **bounds}
        own = containers[0][1]
        limits = {name: max(amount, limits.get(name, Decimal(0))) for name, amount in own.items()}
    return Worker(
        pool=worker.pool,
        shape=worker.shape,
        group=worker.group,
        requests=worker.requests,
        limits=limits,
        containers=tuple(containers),
        priority_class=worker.priority_class,
    )


def refusal(
    worker: Worker, namespace: str, ranges: Sequence[LimitRangeItem], quotas: Iterable[QuotaFacts]
) -> Rejection | None:
    """Why the API server would refuse every worker pod of this shape in `namespace`; None where it would not."""
    stored = with_defaults(worker, ranges)
    found = next((text for item in ranges if (text := _outside(stored, item))), None)
    for quota in quotas:
        if found is None and covers(quota, stored):
            found = _never(stored, quota)
    if found is None:
        return None
    return Rejection(
        Reason.EXCEEDS_NAMESPACE_LIMITS,
        f"No worker {worker.pool}/{worker.shape} can be made in {namespace}, the ServingCluster's namespace: {found}",
    )


def _outside(worker: Worker, item: LimitRangeItem) -> str | None:
    """What of `worker` lies outside one entry of a LimitRange."""
    checked = [(worker.requests, worker.limits)] if item.kind == "Pod" else list(worker.containers)
    for requests, limits in checked:
        for name, most in item.most.items():
            asked = max(limits.get(name, Decimal(0)), requests.get(name, Decimal(0)))
            if asked > most:
                return _told(worker, item, name, asked, f"allows at most {amount_text(name, most)}", "smaller")
            if name not in limits:
                return (
                    f"LimitRange {item.name} has a maximum of {name} for each {item.kind}, and the worker has no limit "
                    f"of {name}. Give the LimitRange a default for {name}, or take {name} out of its max."
                )
        for name, least in item.least.items():
            if requests.get(name, Decimal(0)) < least:
                asked = requests.get(name, Decimal(0))
                return _told(worker, item, name, asked, f"wants at least {amount_text(name, least)}", "larger")
    return None


def _told(worker: Worker, item: LimitRangeItem, name: str, asked: Decimal, wants: str, other: str) -> str:
    return (
        f"LimitRange {item.name} {wants} {name} for each {item.kind}, the worker has {amount_text(name, asked)}. "
        f"Pick a {other} shape through spec.resources, add one to spec.shapes of AcceleratorPool {worker.pool}, "
        "or change the LimitRange."
    )


def _never(worker: Worker, quota: QuotaFacts) -> str | None:
    """What of `quota` is too little for even one worker in an empty namespace."""
    for key, hard in quota.hard.items():
        resource = key.removeprefix("limits.")
        if key.startswith("limits.") and resource in ("cpu", "memory") and _unbounded(worker.containers, resource):
            return (
                f"ResourceQuota {quota.name} bounds {key}, so each container needs a limit of {resource}, and the "
                f"worker has none. Add a LimitRange with a default for {resource}, or take {key} out of the quota."
            )
        each = charged_amount(key, worker)
        if each is not None and each > hard:
            return (
                f"ResourceQuota {quota.name} has {key} {amount_text(key, hard)} in all, one worker needs "
                f"{amount_text(key, each)}. Pick a smaller shape through spec.resources, or raise the quota."
            )
    return None


def _unbounded(containers: Iterable[tuple[Amounts, Amounts]], resource: str) -> bool:
    return any(resource not in limits for _, limits in containers)
