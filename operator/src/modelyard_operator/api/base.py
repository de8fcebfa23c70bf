"""What all the models of the API share."""

import re
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, ErrorDetails

from modelyard_operator.api.rule import VALIDATIONS, Rule

GROUP = "modelyard.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
MAX_NAME = 40
"""Longest name of our kinds: leaves room for KubeRay's and our own suffixes in 63 characters."""
Name = Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=MAX_NAME)]


class RuledModel(BaseModel):
    """A frozen model with camelCase names on the wire that holds its `RULES`."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _hold_rules(self) -> Self:
        for rule in self.RULES:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        document = handler(schema)
        if cls.RULES:
            handler.resolve_ref_schema(document)[VALIDATIONS] = [rule.validation() for rule in cls.RULES]
        return document


class ApiModel(RuledModel):
    """Part of a spec: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class StatusModel(RuledModel):
    """Part of what others write too: a newer operator may have written more than this one knows."""

    model_config = ConfigDict(extra="ignore")


class ObjectMeta(StatusModel):
    """The part of an object's metadata that the operator reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    creation_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


def name_rule(kind: str, *, begins_with_letter: bool = False) -> Rule:
    """The rule for `metadata.name`; a letter comes first where KubeRay names Services after it."""
    first, words = ("[a-z]", ", beginning with a letter") if begins_with_letter else ("[a-z0-9]", "")
    pattern = re.compile(f"{first}([-a-z0-9]{{0,{MAX_NAME - 2}}}[a-z0-9])?")
    return Rule(
        cel=f"self.metadata.name.matches(r'^{pattern.pattern}$')",
        holds=lambda item: pattern.fullmatch(item.metadata.name) is not None,
        field=".metadata.name",
        message=f"metadata.name of {kind} must be at most {MAX_NAME} lower case letters, digits and "
        f"inner hyphens{words}",
    )


def explain(error: ValidationError) -> str:
    """What is wrong, one `field: message` after another, with the names that stand in the manifest."""
    return "; ".join(f"{_path(one)}: {_message(one)}".removeprefix(": ") for one in error.errors())


def unknown_fields(error: ValidationError) -> list[str]:
    """The fields that the model does not have."""
    return [_path(one) for one in error.errors() if one["type"] == "extra_forbidden"]


def _message(one: ErrorDetails) -> str:
    if one["type"] == "extra_forbidden":
        return "there is no such field here; take it out, or correct its name or place (docs/reference.md has them all)"
    return one["msg"]


def _path(one: ErrorDetails) -> str:
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in one["loc"])
    return f"{parts}{one.get('ctx', {}).get('field', '')}".removeprefix(".")
