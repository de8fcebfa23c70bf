"""Facts about room: what nodes have free, what quotas leave, what limit ranges ask of a pod."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from modelyard_operator.api.quantity import parse_quantity

Amounts = Mapping[str, Decimal]
"""Resource to exact amount: cores, bytes or pieces."""


@dataclass(frozen=True)
class PodRequests:
    """A pod that holds room on a node."""

    namespace: str
    name: str
    node: str
    requests: Amounts


@dataclass(frozen=True)
class NodeFacts:
    """A node as the scheduler sees it."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    takes_pods: bool
    """Ready and not cordoned."""
    free: Amounts
    """Allocatable less what its pods request; `pods` among them."""


@dataclass(frozen=True)
class QuotaFacts:
    """A ResourceQuota; the keys are its own, for example requests.memory."""

    name: str
    hard: Amounts
    used: Amounts
    scopes: tuple[Mapping[str, Any], ...] = ()
    """As in scopeSelector.matchExpressions."""


@dataclass(frozen=True)
class LimitRangeItem:
    """One entry of a LimitRange."""

    name: str
    """Of the LimitRange."""
    kind: str
    """Container or Pod."""
    least: Amounts = field(default_factory=dict)
    most: Amounts = field(default_factory=dict)
    default: Amounts = field(default_factory=dict)
    """Limits of a container that has none."""
    default_request: Amounts = field(default_factory=dict)


def amounts(raw: Mapping[str, Any] | None) -> dict[str, Decimal]:
    """A resource list as numbers; what is no quantity we know (a negative or exponential one) is left out."""
    found = {}
    for name, text in (raw or {}).items():
        try:
            found[name] = parse_quantity(str(text))
        except ValueError:
            continue
    return found


def pod_requests(spec: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a pod counts for on its node: its containers together, or its largest init container."""
    total: dict[str, Decimal] = {}
    for container in spec.get("containers") or []:
        _add(total, _asked(container))
    sidecars: dict[str, Decimal] = {}
    for init in spec.get("initContainers") or []:
        if init.get("restartPolicy") == "Always":
            _add(sidecars, _asked(init))
            _add(total, _asked(init))
            continue
        for name, amount in _asked(init).items():
            total[name] = max(total.get(name, Decimal(0)), amount + sidecars.get(name, Decimal(0)))
    _add(total, amounts(spec.get("overhead")))
    return total


def _asked(container: Mapping[str, Any]) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    return {**amounts(resources.get("limits")), **amounts(resources.get("requests"))}


def _add(total: dict[str, Decimal], more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Decimal(0)) + amount


def parse_requests(pods: Iterable[Mapping[str, Any]]) -> tuple[PodRequests, ...]:
    """The pods that hold room on a node: placed, and not over."""
    return tuple(
        PodRequests(
            namespace=pod["metadata"]["namespace"],
            name=pod["metadata"]["name"],
            node=pod["spec"]["nodeName"],
            requests=pod_requests(pod["spec"]),
        )
        for pod in pods
        if (pod.get("spec") or {}).get("nodeName")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    )


def parse_nodes(nodes: Iterable[Mapping[str, Any]], pods: Iterable[PodRequests]) -> tuple[NodeFacts, ...]:
    """Every node with what it has free, by name."""
    taken: dict[str, dict[str, Decimal]] = {}
    for pod in pods:
        _add(taken.setdefault(pod.node, {}), {**pod.requests, "pods": Decimal(1)})
    return tuple(sorted((_node(node, taken) for node in nodes), key=lambda node: node.name))


def _node(node: Mapping[str, Any], taken: Mapping[str, Amounts]) -> NodeFacts:
    spec, status, name = node.get("spec") or {}, node.get("status") or {}, node["metadata"]["name"]
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    used = taken.get(name, {})
    return NodeFacts(
        name=name,
        labels=node["metadata"].get("labels") or {},
        taints=tuple(spec.get("taints") or ()),
        takes_pods=ready and not spec.get("unschedulable"),
        free={
            resource: max(Decimal(0), amount - used.get(resource, Decimal(0)))
            for resource, amount in amounts(status.get("allocatable")).items()
        },
    )


def parse_quotas(quotas: Iterable[Mapping[str, Any]]) -> tuple[QuotaFacts, ...]:
    """The ResourceQuotas of a namespace, by name."""
    found = []
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        selector = (spec.get("scopeSelector") or {}).get("matchExpressions") or []
        plain = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or []]
        found.append(
            QuotaFacts(
                name=quota["metadata"]["name"],
                hard=amounts(status.get("hard") or spec.get("hard")),
                used=amounts(status.get("used")),
                scopes=(*plain, *selector),
            )
        )
    return tuple(sorted(found, key=lambda quota: quota.name))


def parse_limit_ranges(ranges: Iterable[Mapping[str, Any]]) -> tuple[LimitRangeItem, ...]:
    """The entries of a namespace's LimitRanges that concern pods, by name."""
    return tuple(
        LimitRangeItem(
            name=each["metadata"]["name"],
            kind=item["type"],
            least=amounts(item.get("min")),
            most=amounts(item.get("max")),
            default=amounts(item.get("default")),
            default_request=amounts(item.get("defaultRequest")),
        )
        for each in sorted(ranges, key=lambda each: str(each["metadata"]["name"]))
        for item in (each.get("spec") or {}).get("limits") or []
        if item.get("type") in ("Container", "Pod")
    )
