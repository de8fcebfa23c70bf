"""What the chart's service accounts may do on the real API server, and what they may not."""

from collections.abc import Iterator

import pytest
from tests.charts.chart import NAMESPACE, rendered
from tests.kubectl import Kubectl, Manifest

OTHER = "team-a"
_OURS = ("modelservices.modelyard.dev", "servingclusters.modelyard.dev")

OPERATOR_MAY = (
    *((verb, kind, OTHER) for kind in _OURS for verb in ("get", "list", "watch", "patch")),
    *(("patch", f"{kind}/status", OTHER) for kind in _OURS),
    *(("update", f"{kind}/finalizers", OTHER) for kind in _OURS),
    *((verb, "acceleratorpools.modelyard.dev", "") for verb in ("get", "list", "watch")),
    ("patch", "acceleratorpools.modelyard.dev/status", ""),
    *((verb, "controllerrevisions.apps", OTHER) for verb in ("list", "watch", "create", "patch", "delete")),
    *((verb, "rayclusters.ray.io", OTHER) for verb in ("list", "watch", "create", "patch", "delete")),
    *((verb, "poddisruptionbudgets.policy", OTHER) for verb in ("list", "create", "patch", "delete")),
    *((verb, "networkpolicies.networking.k8s.io", OTHER) for verb in ("list", "create", "patch", "delete")),
    *((verb, "pods", OTHER) for verb in ("get", "list", "watch", "delete")),
    ("list", "nodes", ""),
    *((verb, "namespaces", "") for verb in ("get", "list", "watch")),
    *((verb, "secrets", OTHER) for verb in ("get", "create")),
    *((verb, "statefulsets.apps", OTHER) for verb in ("get", "create", "patch", "delete")),
    *((verb, "services", OTHER) for verb in ("get", "create", "patch", "delete")),
    *((verb, "persistentvolumeclaims", OTHER) for verb in ("get", "create", "delete")),
    ("create", "events", OTHER),
    *((verb, "customresourcedefinitions.apiextensions.k8s.io", "") for verb in ("get", "list", "watch")),
    *((verb, "configmaps/modelyard-routes", NAMESPACE) for verb in ("get", "create", "patch")),
    *((verb, "leases.coordination.k8s.io/modelyard-operator", NAMESPACE) for verb in ("get", "create", "patch")),
)
OPERATOR_MAY_NOT = (
    ("patch", "leases.coordination.k8s.io/other", NAMESPACE),
    ("delete", "leases.coordination.k8s.io/modelyard-operator", NAMESPACE),
    ("get", "leases.coordination.k8s.io/modelyard-operator", OTHER),
    ("list", "secrets", OTHER),
    *((verb, "secrets", OTHER) for verb in ("update", "patch", "delete")),
    *((verb, "persistentvolumeclaims", OTHER) for verb in ("list", "patch")),
    ("get", "configmaps/modelyard-routes", OTHER),
    ("get", "configmaps/other", NAMESPACE),
    ("create", "pods", OTHER),
    ("patch", "pods", OTHER),
    ("delete", "modelservices.modelyard.dev", OTHER),
    ("create", "modelservices.modelyard.dev", OTHER),
    ("patch", "acceleratorpools.modelyard.dev", ""),
    ("patch", "nodes", ""),
    ("patch", "namespaces", ""),
    ("create", "customresourcedefinitions.apiextensions.k8s.io", ""),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", ""),
)
GATEWAY_MAY = tuple((verb, "configmaps/modelyard-routes", NAMESPACE) for verb in ("get", "list", "watch"))
GATEWAY_MAY_NOT = (
    ("list", "configmaps", NAMESPACE),
    ("get", "configmaps/modelyard-routes", OTHER),
    ("patch", "configmaps/modelyard-routes", NAMESPACE),
    ("get", "secrets", NAMESPACE),
    ("list", "pods", NAMESPACE),
    ("list", "modelservices.modelyard.dev", NAMESPACE),
)
CLEANUP_MAY = tuple((verb, kind, OTHER) for kind in _OURS for verb in ("list", "delete"))
CLEANUP_MAY_NOT = (
    ("delete", "acceleratorpools.modelyard.dev", ""),
    ("patch", "modelservices.modelyard.dev", OTHER),
    ("get", "secrets", NAMESPACE),
)
CASES = [
    (account, *case, allowed)
    for account, cases, allowed in (
        ("operator", OPERATOR_MAY, True),
        ("operator", OPERATOR_MAY_NOT, False),
        ("gateway", GATEWAY_MAY, True),
        ("gateway", GATEWAY_MAY_NOT, False),
        ("cleanup", CLEANUP_MAY, True),
        ("cleanup", CLEANUP_MAY_NOT, False),
    )
    for case in cases
]


@pytest.fixture(scope="module")
def installed(kubectl: Kubectl) -> Iterator[Kubectl]:
    """The chart's accounts and roles, for real."""
    for name in (NAMESPACE, OTHER):
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        kubectl.must("apply", "-f", "-", manifest=manifest)
    access = _access(rendered({}))
    kubectl.must("create", "-f", "-", manifest=access)
    yield kubectl
    kubectl.must("delete", "-f", "-", manifest=access)


def _access(objects: list[Manifest]) -> list[Manifest]:
    return [each for each in objects if "Role" in each["kind"] or each["kind"] == "ServiceAccount"]


def _user(account: str) -> str:
    return f"system:serviceaccount:{NAMESPACE}:modelyard-{account}"


@pytest.mark.parametrize(("account", "verb", "resource", "namespace", "allowed"), CASES)
def test_access(installed: Kubectl, account: str, verb: str, resource: str, namespace: str, allowed: bool) -> None:
    kind, _, part = resource.partition("/")
    name, _, group = kind.partition(".")
    asked = {"verb": verb, "group": group, "resource": name, "namespace": namespace}
    asked |= {"subresource" if part in ("status", "finalizers") else "name": part}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": _user(account), "resourceAttributes": asked},
    }
    answer = installed.must("create", "-f", "-", "-o", "json", manifest=review).json()
    assert answer["status"]["allowed"] == allowed


def test_the_operator_publishes_routes_by_apply_and_the_gateway_watches_them(installed: Kubectl) -> None:
    routes = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "modelyard-routes", "namespace": NAMESPACE},
        "data": {"routes.json": "{}"},
    }
    apply = ("apply", "--server-side", "-f", "-", f"--as={_user('operator')}")
    installed.must(*apply, manifest=routes)
    installed.must(*apply, manifest=routes | {"data": {"routes.json": "[]"}})
    other = routes | {"metadata": {"name": "other", "namespace": NAMESPACE}}
    assert "forbidden" in installed(*apply, manifest=other).error
    listed = ("get", "configmaps", "-n", NAMESPACE, "--field-selector=metadata.name=modelyard-routes")
    assert installed.must(*listed, "-o", "name", f"--as={_user('gateway')}").out.strip() == "configmap/modelyard-routes"


def test_no_rule_has_a_wildcard() -> None:
    for role in (each for each in rendered({}) if each["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_users_get_our_kinds_with_the_built_in_roles() -> None:
    rules = {
        each["metadata"]["name"]: (each["metadata"]["labels"], each["rules"][0])
        for each in rendered({})
        if each["kind"] == "ClusterRole"
    }
    for role in ("view", "edit", "admin"):
        labels, rule = rules[f"modelyard-{role}"]
        assert labels[f"rbac.authorization.k8s.io/aggregate-to-{role}"] == "true"
        assert ("delete" in rule["verbs"]) == (role != "view")
