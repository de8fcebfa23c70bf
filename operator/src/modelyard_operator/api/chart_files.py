"""What the chart `modelyard` says of its values: values.yaml, values.schema.json and the table in its README."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic.alias_generators import to_camel

from modelyard_operator.api.chart_values import ChartValues, Values

_HEADER = "# Written by `make generate` from operator/src/modelyard_operator/api/chart_values.py. Do not edit.\n"
_README = """<!-- Written by `make generate` from operator/src/modelyard_operator/api. Do not edit. -->

# The chart modelyard

The operator, the gateways, the AcceleratorPool `cpu` and a shared default ServingCluster. Needed before: Kubernetes
1.30 or newer, the chart `modelyard-crds`, and KubeRay 1.6. One release in a cluster: it serves all namespaces.

    helm install modelyard-crds charts/modelyard-crds
    helm install modelyard charts/modelyard --namespace modelyard --create-namespace --wait \\
      --set 'defaultServingCluster.runtime.volumes[0].claim=models'

`helm uninstall modelyard` first deletes all ModelServices and ServingClusters (`cleanup`); the CRDs stay, and with
them whatever you keep. `helm upgrade` changes nothing that runs until its owner changes something.

What the pods may do: the operator reads our kinds, pods and nodes, writes statuses, revisions, RayClusters, their
Redis and Events, reads single Secrets (never lists them) for the token that KubeRay makes for each RayCluster, and
makes one with the password of each Redis; a gateway reads the one ConfigMap with the routes. All run as non-root with
a read-only root and without capabilities, as the Pod Security Standard `restricted` asks. Users with the built-in
roles `view`, `edit` and `admin` get rights on our kinds.

| value | default | what it is |
|---|---|---|
"""


def chart_files() -> dict[str, str]:
    """The texts by their path in the repository."""
    values = ChartValues()
    schema = _without_titles(ChartValues.model_json_schema(by_alias=True))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    # Helm gives every chart that is another's dependency these.
    schema["properties"]["global"] = {"type": "object", "description": "Values of the parent chart; not used."}
    return {
        "charts/modelyard/values.yaml": _HEADER + "\n".join(_yaml(values, 0)) + "\n",
        "charts/modelyard/values.schema.json": json.dumps(schema, indent=1) + "\n",
        "charts/modelyard/README.md": _README + "\n".join(_rows(values, "")) + "\n",
    }


def _members(values: Values) -> Iterator[tuple[str, str, Any]]:
    """Name, description and value of each field."""
    for name, field in type(values).model_fields.items():
        yield to_camel(name), field.description or "", getattr(values, name)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return value


def _yaml(values: Values, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, description, value in _members(values):
        yield from textwrap.wrap(description, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if isinstance(value, Values):
            yield f"{indent}{name}:"
            yield from _yaml(value, depth + 1)
        else:
            yield textwrap.indent(_entry(name, _plain(value)), indent)


def _entry(name: str, value: Any) -> str:
    """One key of YAML with its value: what has members stands on lines of its own."""
    if not value or not isinstance(value, list | dict):
        return f"{name}: {json.dumps(value)}"
    return yaml.safe_dump({name: value}, sort_keys=False, default_flow_style=None, width=200).rstrip()


def _rows(values: Values, prefix: str) -> Iterator[str]:
    for name, description, value in _members(values):
        if isinstance(value, Values):
            yield from _rows(value, f"{prefix}{name}.")
        else:
            yield f"| `{prefix}{name}` | `{json.dumps(_plain(value))}` | {description} |"


def _without_titles(node: Any) -> Any:
    """The schema without pydantic's titles, the defaults that values.yaml holds, and Kubernetes' own keywords."""
    if isinstance(node, list):
        return [_without_titles(each) for each in node]
    if not isinstance(node, dict):
        return node
    named = {"properties", "$defs"}
    return {
        key: {name: _without_titles(each) for name, each in value.items()} if key in named else _without_titles(value)
        for key, value in node.items()
        if key not in ("title", "default") and not key.startswith("x-kubernetes-")
    }
