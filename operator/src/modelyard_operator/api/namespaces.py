"""Which namespaces may use something, in the shape of Gateway API's allowedRoutes.namespaces."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from modelyard_operator.api.base import ApiModel
from modelyard_operator.api.rule import Rule

LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$", max_length=317)]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]


class LabelExpression(ApiModel):
    """As in a Kubernetes label selector."""

    key: LabelKey = Field(description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label's value is compared with values; Exists and DoesNotExist look at the key alone."
    )
    values: tuple[LabelValue, ...] = Field(
        default=(), max_length=64, description="The values for In and NotIn; none for the others."
    )

    RULES: ClassVar = (
        Rule(
            cel="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            holds=lambda one: (one.operator in ("In", "NotIn")) == bool(one.values),
            field=".values",
            message="values of an expression are needed with operator In and NotIn, and have no meaning with Exists "
            "and DoesNotExist: set or remove them",
        ),
    )


class LabelSelector(ApiModel):
    """As in Kubernetes: all of matchLabels and of matchExpressions must hold."""

    match_labels: dict[str, LabelValue] = Field(default={}, max_length=16, description="Labels with their values.")
    match_expressions: tuple[LabelExpression, ...] = Field(
        default=(), max_length=16, description="Expressions about labels."
    )

    RULES: ClassVar = (
        Rule(
            cel="(has(self.matchLabels) && size(self.matchLabels) > 0) || "
            "(has(self.matchExpressions) && size(self.matchExpressions) > 0)",
            holds=lambda selector: bool(selector.match_labels or selector.match_expressions),
            message="selector needs matchLabels or matchExpressions: set one, or use from: All for every namespace",
        ),
    )


class AllowedNamespaces(ApiModel):
    """Namespaces whose ModelServices may use it."""

    from_: Literal["All", "Same", "Selector"] = Field(
        alias="from",
        description="All namespaces, the Same one as the object's own, or those whose labels match selector.",
    )
    selector: LabelSelector | None = Field(
        default=None, description="Labels of the namespaces, with from: Selector and only then."
    )

    RULES: ClassVar = (
        Rule(
            cel="(self.from == 'Selector') == has(self.selector)",
            holds=lambda allowed: (allowed.from_ == "Selector") == (allowed.selector is not None),
            field=".selector",
            message="selector is needed with from: Selector, and has no meaning otherwise: set from to Selector, "
            "or remove selector",
        ),
    )
