"""The API reference as a page: a table for each kind, and the rules that hold between fields."""

import json
from collections.abc import Iterator
from typing import Any

from modelyard_operator.api.base import GROUP, VERSION
from modelyard_operator.api.crd import KINDS, Kind
from modelyard_operator.api.rule import VALIDATIONS
from modelyard_operator.api.schema import Schema, resolved

_HEAD = f"""<!-- Written by `make generate` from operator/src/modelyard_operator/api. Do not edit. -->

# API reference: {GROUP}/{VERSION}

`kubectl explain <kind>.spec --recursive` shows the same in a cluster. Defaults stand here and in the
descriptions, not in the schema: a field that you leave out stays left out, so a later release may choose a
better default.
"""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, *(_section(kind) for kind in KINDS)])


def _section(kind: Kind) -> str:
    schema = resolved(kind.model)
    lines = [
        f"## {kind.name}",
        "",
        f"{schema['description']} Short name `{kind.short}`; {kind.scope.lower()} scope.",
        "",
        "| field | type | default | what it is |",
        "|---|---|---|---|",
    ]
    lines += [_row(path, each, required) for path, each, required in _fields(schema)]
    rules = list(_rules(schema, ""))
    if rules:
        lines += ["", "Rules:", "", *(f"* {rule}" for rule in rules)]
    return "\n".join([*lines, ""])


def _fields(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Every field below `schema` with its path and whether it must be given, metadata left out."""
    for name, each in schema["properties"].items():
        path = f"{prefix}{name}"
        if path == "metadata":
            continue
        yield path, each, name in schema.get("required", [])
        inner = each.get("items", each)
        if "properties" in inner:
            yield from _fields(inner, f"{path}[]." if "items" in each else f"{path}.")


def _rules(schema: Schema, path: str) -> Iterator[str]:
    for rule in schema.get(VALIDATIONS, []):
        yield rule["message"] if schema.get("type") == "object" else f"`{path}` {rule['message']}"
    for name, each in schema.get("properties", {}).items():
        yield from _rules(each, f"{path}.{name}".removeprefix("."))
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")


def _row(path: str, schema: Schema, required: bool) -> str:  # noqa: FBT001
    default = "**required**" if required else _default(schema.get("default"))
    return f"| `{path}` | {_type(schema)} | {default} | {_cell(schema.get('description', ''))} |"


def _default(value: Any) -> str:
    return "" if value in (None, "", [], {}) or isinstance(value, dict) else f"`{json.dumps(value).strip(chr(34))}`"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    if "minimum" in schema and "maximum" in schema:
        return f"{schema['type']}, {schema['minimum']} to {schema['maximum']}"
    return str(schema["type"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
