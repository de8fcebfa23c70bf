"""Whether the namespace of a service may use a ServingCluster and an AcceleratorPool."""

from collections.abc import Mapping

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.api.conditions import Reason
from modelyard_operator.api.namespaces import AllowedNamespaces, LabelExpression, LabelSelector
from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.resolution import Rejection


def asks_labels(cluster: ServingCluster, pool: AcceleratorPool) -> bool:
    """Whether `refusal` depends on the labels of the service's namespace."""
    return any(item.spec.allowed_namespaces.selector is not None for item in (cluster, pool))


def refusal(
    namespace: str, labels: Mapping[str, str], cluster: ServingCluster, pool: AcceleratorPool
) -> Rejection | None:
    """Why a service of `namespace`, which has `labels`, may not use `cluster` or `pool`; None where it may."""
    own = cluster.metadata.namespace
    if not is_allowed(cluster.spec.allowed_namespaces, own, namespace, labels):
        which = f"ServingCluster {own}/{cluster.metadata.name}"
        return _refused(namespace, which, cluster.spec.allowed_namespaces, "spec.servingCluster")
    if not is_allowed(pool.spec.allowed_namespaces, "", namespace, labels):
        which = f"AcceleratorPool {pool.metadata.name}"
        return _refused(namespace, which, pool.spec.allowed_namespaces, "spec.accelerator.pool")
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
