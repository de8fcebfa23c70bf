"""Who may reach the Ray pods of a ServingCluster, where the cluster's network enforces it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard_operator.api.serving_cluster import ServingCluster
from modelyard_operator.desired.names import (
    CLUSTER_LABEL,
    CLUSTER_NAMESPACE_LABEL,
    DASHBOARD_PORT,
    MANAGED_LABEL,
    METRICS_PORT,
    SERVE_PORT,
)
from modelyard_operator.desired.ray_cluster import owner_reference

_METRICS_PORTS = (METRICS_PORT, 9101)
"""Ray's numbers, and those of Serve's HAProxy."""


@dataclass(frozen=True)
class Peers:
    """The platform's own pods, by their labels, all in one namespace."""

    namespace: str
    operator: Mapping[str, str]
    gateways: Mapping[str, str]


def network_policy(cluster: ServingCluster, peers: Peers) -> dict[str, Any]:
    """Ray's own ports for the cluster's own pods; for others only what they need.

    Ray has no ports that strangers may be let near: its client port and its GCS run whatever they are given. KubeRay
    is no peer: its controller of RayClusters speaks to the API server alone. Kubelets' probes are always let in.
    """
    labels = {
        MANAGED_LABEL: "true",
        CLUSTER_LABEL: cluster.metadata.name,
        CLUSTER_NAMESPACE_LABEL: cluster.metadata.namespace,
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"{cluster.metadata.name}-ray",
            "namespace": cluster.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference("ServingCluster", cluster.metadata.name, cluster.metadata.uid)],
        },
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": labels}}]},
                {"from": [_peer(peers.namespace, peers.operator)], "ports": _ports(DASHBOARD_PORT, SERVE_PORT)},
                {"from": [_peer(peers.namespace, peers.gateways)], "ports": _ports(SERVE_PORT)},
                {"ports": _ports(*_METRICS_PORTS)},
            ],
        },
    }


def _peer(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Both selectors in one peer: they must hold together."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _ports(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]
