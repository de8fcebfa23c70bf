"""Rules of the API, written once and held twice: by the API server as CEL and by the models in Python.

Local mode and the operator parse manifests without an API server in between, so each rule carries both forms
and one message. `tests/unit/api` and `tests/contract` send the same manifests through both.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """One rule, either in `RULES` of a model or as metadata of an `Annotated` type.

    `cel` and `holds` say the same about `self`; `field` is the path, below `self`, that the API server names.
    The message names the field where `self` is an object, and always says what to do.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str = ""

    def check(self, value: Any) -> Any:
        """`value` itself, or an error with the rule's message."""
        if not self.holds(value):
            raise PydanticCustomError("rule", "{message}", {"message": self.message, "field": self.field})
        return value

    def validation(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        return entry | {"fieldPath": self.field} if self.field else entry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        document = handler(schema)
        return document | {VALIDATIONS: [*document.get(VALIDATIONS, []), self.validation()]}


def matching(pattern: str, message: str) -> Rule:
    """The rule that a text as a whole matches `pattern`, a regular expression without quotes."""
    compiled = re.compile(pattern)
    return Rule(f"self.matches(r'^{pattern}$')", message, lambda text: compiled.fullmatch(text) is not None)


@dataclass(frozen=True)
class Unique:
    """Metadata of a list whose items differ in `key` (or in themselves); apply merges it by that."""

    key: str = ""

    def check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        """`items` itself, or an error that names the one that occurs twice."""
        seen = set()
        for item in items:
            mark = getattr(item, self.key) if self.key else item
            if mark in seen:
                raise PydanticCustomError("unique", "Duplicate value: {mark}", {"mark": str(mark)})
            seen.add(mark)
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if not self.key:
            return handler(schema) | {"x-kubernetes-list-type": "set"}
        return handler(schema) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}
