"""Conditions that remember when they changed."""

from collections.abc import Iterable
from datetime import datetime

from modelyard_operator.api.conditions import MAX_MESSAGE, Condition, ConditionType, Reason


def condition(kind: ConditionType, status: bool | None, reason: Reason, message: str = "") -> Condition:  # noqa: FBT001
    """A condition without times; a status of None is Unknown."""
    text = "Unknown" if status is None else str(status)
    short = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
    return Condition(type=kind, status=text, reason=reason.value, message=short)


def stamped(
    conditions: Iterable[Condition], previous: Iterable[Condition], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """`conditions` with the generation, and with the time of their last change of status (not of reason)."""
    before = {old.type: old for old in previous}
    result = []
    for new in conditions:
        old = before.get(new.type)
        kept = old.last_transition_time if old is not None and old.status == new.status else None
        result.append(
            new.model_copy(
                update={
                    "observed_generation": generation,
                    "last_transition_time": kept or now.replace(microsecond=0),
                }
            )
        )
    return tuple(result)


def rejected(previous: Iterable[Condition], message: str, *, generation: int, now: datetime) -> tuple[Condition, ...]:
    """The conditions of an object whose spec cannot be read: not accepted, not ready, for the rest as before."""
    old = tuple(previous)
    told = (ConditionType.ACCEPTED, ConditionType.READY)
    new = [condition(kind, False, Reason.INVALID_SPEC, message) for kind in told]
    return stamped([*new, *(c for c in old if c.type not in told)], old, generation=generation, now=now)


def transitions(previous: Iterable[Condition], conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions whose status or reason is new: each is worth one Event."""
    before = {(old.type, old.status, old.reason) for old in previous}
    return tuple(new for new in conditions if (new.type, new.status, new.reason) not in before)


def is_warning(changed: Condition) -> bool:
    """Whether a transition tells of something wrong."""
    if changed.type is ConditionType.DEGRADED:
        return changed.status == "True"
    return changed.type is ConditionType.ACCEPTED and changed.status == "False"
