"""Whether the namespace of a service may use a ServingCluster and an AcceleratorPool."""

from collections.abc import Mapping

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.namespaces import AllowedNamespaces, LabelExpression, LabelSelector
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.resolution import Rejection

_ALL, _SAME = (AllowedNamespaces.model_validate({"from": origin}) for origin in ("All", "Same"))


def asks_labels(cluster: ServingCluster, pool: AcceleratorPool) -> bool:
    """Whether `refusal` depends on the labels of the service's namespace."""
    allowed = (cluster.spec.allowed_namespaces, pool.spec.allowed_namespaces)
    return any(each is not None and each.selector is not None for each in allowed)


def refusal(
    namespace: str,
    labels: Mapping[str, str],
    cluster: ServingCluster,
    pool: AcceleratorPool,
    default: tuple[str, str] | None = None,
) -> Rejection | None:
    """Why a service of `namespace`, which has `labels`, may not use `cluster` or `pool`; None where it may.

    `default` is the platform's default ServingCluster, which is there for all unless it says otherwise.
    """
    own, name = cluster.metadata.namespace, cluster.metadata.name
    allowed = cluster.spec.allowed_namespaces or (_ALL if (own, name) == default else _SAME)
    if not is_allowed(allowed, own, namespace, labels):
        return _refused(namespace, f"ServingCluster {own}/{name}", allowed, "spec.servingCluster")
    allowed = pool.spec.allowed_namespaces or _ALL
    if not is_allowed(allowed, "", namespace, labels):
        return _refused(namespace, f"AcceleratorPool {pool.metadata.name}", allowed, "spec.accelerator.pool")
    return None


def is_allowed(allowed: AllowedNamespaces, own: str, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether services of `namespace` may use something that stands in the namespace `own`."""
    if allowed.from_ == "Same":
        return namespace == own
    return allowed.selector is None or matches(allowed.selector, labels)


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether `labels` meet all of `selector`, as Kubernetes decides it."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _meets(labels, expression) for expression in selector.match_expressions
    )


def _meets(labels: Mapping[str, str], expression: LabelExpression) -> bool:
    match expression.operator:
        case "In":
            return labels.get(expression.key) in expression.values
        case "NotIn":
            return labels.get(expression.key) not in expression.values
        case "Exists":
            return expression.key in labels
        case "DoesNotExist":
            return expression.key not in labels


def _refused(namespace: str, which: str, allowed: AllowedNamespaces, field: str) -> Rejection:
    whom = "its own namespace" if allowed.selector is None else f"namespaces with {_words(allowed.selector)}"
    label = "" if allowed.selector is None else f"an administrator can label the namespace {namespace}, "
    return Rejection(
        Reason.NAMESPACE_NOT_ALLOWED,
        f"{which} takes ModelServices of {whom}, not of {namespace}. Its owner can allow {namespace} in its "
        f"spec.allowedNamespaces, {label}or name another one in {field}. What runs goes on, without new revisions.",
    )


def _words(selector: LabelSelector) -> str:
    signs = {"In": "in", "NotIn": "not in", "Exists": "is set", "DoesNotExist": "is not set"}
    pairs = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    others = [
        f"{one.key} {signs[one.operator]}" + (f" ({', '.join(one.values)})" if one.values else "")
        for one in selector.match_expressions
    ]
    return ", ".join([*pairs, *others])
