"""The CustomResourceDefinitions: names, scopes, subresources and columns around the schemas of the models."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from modelyard_operator.api.accelerator_pool import AcceleratorPool
from modelyard_operator.api.base import GROUP, VERSION
from modelyard_operator.api.model_service import ModelService
from modelyard_operator.api.schema import Schema, resolved, without_defaults
from modelyard_operator.api.serving_cluster import ServingCluster


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; `wide` ones only appear with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    description: str = ""

    def manifest(self) -> dict[str, Any]:
        """The entry of `additionalPrinterColumns`."""
        entry: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            entry["description"] = self.description
        return entry | {"priority": 1} if self.wide else entry


@dataclass(frozen=True)
class Kind:
    """One kind of the group and everything about it that its model does not say."""

    model: type[BaseModel]
    plural: str
    short: str
    scope: str
    columns: tuple[Column, ...]
    scalable: bool = False

    @property
    def name(self) -> str:
        return self.model.__name__

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"


_READY = Column("Ready", ".status.conditions[?(@.type=='Ready')].status", description="Whether it can be used now.")
_REASON = Column("Reason", ".status.conditions[?(@.type=='Ready')].reason", wide=True, description="Why, in a word.")
_MESSAGE = Column("Message", ".status.conditions[?(@.type=='Ready')].message", wide=True, description="Why.")
_AGE = Column("Age", ".metadata.creationTimestamp", "date")

KINDS = (
    Kind(
        ModelService, "modelservices", "msvc", "Namespaced", scalable=True,
        columns=(
            _READY,
            Column("Replicas", ".status.replicas", "integer", description="Replicas that serve."),
            Column("Desired", ".status.desiredReplicas", "integer", description="Replicas there should be."),
            Column("Revision", ".status.activeRevision", description="The revision that takes the requests."),
            Column("Workers", ".status.workerShape", description="<pool>/<shape> of the workers."),
            _AGE, _REASON,
            Column("Cluster", ".status.servingCluster", wide=True, description="Its ServingCluster."),
            Column("URL", ".status.url", wide=True, description="Where it answers inside the cluster."),
            _MESSAGE,
        ),
    ),
    Kind(
        ServingCluster, "servingclusters", "scl", "Namespaced",
        columns=(
            _READY,
            Column("Services", ".status.services", "integer", description="ModelServices bound to it."),
            Column("Workers", ".status.workers", "integer", description="Worker pods that are ready."),
            Column("Ray", ".status.rayVersion", description="The Ray version that runs."),
            _AGE, _REASON,
            Column("RayCluster", ".status.rayCluster", wide=True, description="What serves now."),
            _MESSAGE,
        ),
    ),
    Kind(
        AcceleratorPool, "acceleratorpools", "apool", "Cluster",
        columns=(
            _READY,
            Column("Device", ".spec.device", description="What torch computes on."),
            Column("Nodes", ".status.nodes", "integer", description="Nodes that match the selector now."),
            Column("Services", ".status.services", "integer", description="ModelServices that use it."),
            Column("Workers", ".status.usage", description="Workers in use, of those that may be."),
            _AGE, _REASON,
            Column("Resource", ".spec.resourceName", wide=True, description="The extended resource."),
            _MESSAGE,
        ),
    ),
)  # fmt: skip


def custom_resource_definition(kind: Kind) -> dict[str, Any]:
    """The whole manifest of the CRD of `kind`."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scalable:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "labels": {"app.kubernetes.io/part-of": "modelyard"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["modelyard"],
            },
            "scope": kind.scope,
            "versions": [{
                "name": VERSION,
                "served": True,
                "storage": True,
                "subresources": subresources,
                "additionalPrinterColumns": [column.manifest() for column in kind.columns],
                "schema": {"openAPIV3Schema": object_schema(without_defaults(resolved(kind.model)))},
            }],
        },
    }  # fmt: skip


def object_schema(schema: Schema) -> Schema:
    """The schema of a whole object.

    The API server knows by itself what apiVersion, kind and metadata are; only rules need metadata.name.
    """
    envelope = {
        "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
        "kind": {"type": "string", "description": "The kind of the object."},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
    }
    required = [name for name in schema.get("required", []) if name not in envelope]
    result = schema | {"properties": schema["properties"] | envelope}
    return result | {"required": required} if required else {k: v for k, v in result.items() if k != "required"}
