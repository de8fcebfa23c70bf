"""Kubernetes quantities (`512Mi`, `1.5Gi`, `250m`) and durations (`90s`, `1h30m`): fields and numbers."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

from modelyard_operator.api.rule import Rule, matching

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(n|u|m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")

_ABOVE_ZERO = r"(0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*)"
_CPU_PATTERN = f"^{_ABOVE_ZERO}m?$"
# Digits are few enough that no duration overflows 64 bits of nanoseconds in CEL.
_DURATION_PATTERN = r"([0-9]{1,5}(\.[0-9]{1,3})?(ms|h|m|s)){1,4}"


def _whole_number_as_text(value: Any) -> Any:
    return str(value) if type(value) is int else value


Cpu = Annotated[
    str,
    StringConstraints(pattern=_CPU_PATTERN, max_length=16),
    BeforeValidator(_whole_number_as_text),
    WithJsonSchema({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "minimum": 1,
        "maxLength": 16,
        "pattern": _CPU_PATTERN,
    }),
]  # fmt: skip
"""CPU above zero: `2`, `"0.5"` or `500m`."""

Memory = Annotated[
    str,
    StringConstraints(max_length=16),
    matching(
        _ABOVE_ZERO + "(k|M|G|T|Ki|Mi|Gi|Ti)?",
        "must be an amount of memory above zero, for example 512Mi or 2Gi",
    ),
]
"""Bytes above zero."""


def duration_between(least: str, most: str) -> Rule:
    """The rule for a field that holds a duration; both ends are allowed."""
    low, high = parse_duration(least), parse_duration(most)
    form = re.compile(_DURATION_PATTERN)
    return Rule(
        cel=f"self.matches(r'^{_DURATION_PATTERN}$')"
        f" && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')",
        holds=lambda text: form.fullmatch(text) is not None and low <= parse_duration(text) <= high,
        message=f"must be a duration from {least} to {most}, for example 30s, 5m or 1h30m",
    )


def parse_quantity(text: str) -> Decimal:
    """A Kubernetes quantity as an exact number (bytes, cores or pieces).

    Raises:
        ValueError: `text` is not a quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity: write for example 512Mi, 2Gi, 500m or 4")
    return Decimal(match[1]) * _SUFFIXES[match[2] or ""]


def parse_bytes(text: str) -> int:
    """A quantity of memory in whole bytes."""
    return int(parse_quantity(text))


def format_bytes(number: int) -> str:
    """Bytes for people: the largest binary unit with at most one decimal."""
    for unit in ("Gi", "Mi", "Ki"):
        size = int(_SUFFIXES[unit])
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + unit
    return str(number)


def parse_duration(text: str) -> float:
    """A duration in Go's notation, in seconds.

    Raises:
        ValueError: `text` is not a duration.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write for example 30s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
