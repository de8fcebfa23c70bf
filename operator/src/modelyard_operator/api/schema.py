"""From the models to OpenAPI schemas that Kubernetes calls structural: no references, no nulls, no titles."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_ORDER = (
    "description", "type", "x-kubernetes-int-or-string", "anyOf", "format", "enum", "pattern",
    "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "maxProperties",
    "additionalProperties", "required", "default", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-validations", "properties", "items",
)  # fmt: skip
"""What a structural schema may say here, in the order in which it is written."""
_NULL = {"type": "null"}


def resolved(model: type[BaseModel]) -> Schema:
    """The schema of `model` as one tree, by the names on the wire, with the models' defaults still in it.

    Raises:
        ValueError: A field is declared in a way that a structural schema has no word for.
    """
    document = model.model_json_schema(by_alias=True)
    return _resolve(document, document.get("$defs", {}), model.__name__)


def without_defaults(schema: Schema) -> Schema:
    """The same tree with each default told in the description instead.

    The API server would write a default of the schema into every object, where it would stay when a later
    release knows a better one.
    """
    result = {key: value for key, value in schema.items() if key != "default"}
    default = schema.get("default")
    if default and not isinstance(default, list | dict):
        result["description"] = f"{schema['description']} Default: {default}."
    if "properties" in schema:
        result["properties"] = {name: without_defaults(each) for name, each in schema["properties"].items()}
    if "items" in schema:
        result["items"] = without_defaults(schema["items"])
    return result


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Schema], path: str) -> Schema:
    node = _flat(node, definitions)
    result: Schema = {"format": "int64"} if node.get("type") == "integer" else {}
    for key, value in node.items():
        match key:
            case "title" | "$defs":
                pass
            case "additionalProperties" if value is False:
                pass  # A structural schema is closed anyway: what it does not name is pruned or refused.
            case "default" if value is None:
                pass
            case "const":
                result["enum"] = [value]
            case "properties":
                inner = {name: _resolve(each, definitions, f"{path}.{name}") for name, each in value.items()}
                result[key] = inner
            case "items" | "additionalProperties":
                result[key] = _resolve(value, definitions, f"{path}[]")
            case _ if key not in _ORDER or (key == "anyOf" and "x-kubernetes-int-or-string" not in node):
                raise ValueError(f"{path}: Kubernetes has no word for {key} here: declare the field otherwise")
            case _:
                result[key] = value
    return {key: result[key] for key in _ORDER if key in result}


def _flat(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> dict[str, Any]:
    """`node` without a reference and without the null of an optional field; what stands beside them wins."""
    flat = dict(node)
    alternatives = [each for each in flat.get("anyOf", []) if each != _NULL]
    if "anyOf" in flat and len(alternatives) == 1:
        del flat["anyOf"]
        flat = alternatives[0] | flat
    while "$ref" in flat:
        flat = definitions[flat.pop("$ref").rpartition("/")[2]] | flat
    return flat
