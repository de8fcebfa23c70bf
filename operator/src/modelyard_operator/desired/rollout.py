"""The next steps of a service's rollout: pure, so that every order of events can be tested.

A new revision comes up beside the active one, proves itself by a real inference, becomes active; when every gateway
has switched, the old one is retired, Ray Serve lets its requests finish, and its record goes.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from modelyard_operator.desired.resolution import Resolved
from modelyard_operator.desired.revision import Phase, Revision, new_revision
from modelyard_operator.desired.routes import active_revision
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.observed.view import ClusterView


@dataclass(frozen=True)
class Situation:
    """All that the next steps depend on."""

    wanted: Resolved | None
    """None: the spec cannot be resolved now; what runs goes on."""
    stopped: bool
    revisions: tuple[Revision, ...]
    view: ClusterView | None
    """None: not seen yet."""
    routed: str | None
    """The revision that every gateway leads to; empty: they refuse; None: not known."""
    settled: bool = True
    """Whether requests that were sent the old way before `routed` became true have arrived."""
    proven: Collection[str] = ()
    """Revisions that have answered a real inference."""
    retry_due: bool = False
    """Whether a failed start may be tried again now."""


@dataclass(frozen=True)
class Steps:
    """What to do now, in this order: write `changes`, ask `prove`, delete `forget`."""

    changes: tuple[Revision, ...] = ()
    prove: Revision | None = None
    forget: tuple[Revision, ...] = ()
    revisions: tuple[Revision, ...] = field(default=())
    """The revisions as they stand after the changes."""
    failed: Revision | None = None
    """A revision that Ray Serve gave up on; it is tried again when the caller says `retry_due`."""


def next_steps(now: Situation) -> Steps:
    """The steps that bring `now` nearer to what is wanted; no steps where there is nothing to do or only to wait."""
    changes: dict[str, Revision] = {}
    active = active_revision(now.revisions)
    for revision in now.revisions:
        if revision.phase is Phase.ACTIVE and revision is not active:
            changes[revision.name] = revision.at(Phase.DRAINING)
    failed = None if now.stopped else _failed(now, active)
    if now.stopped:
        changes |= _stop(now, active)
    elif now.wanted is not None and failed is None:
        changes |= _bring_up(now.wanted, now.revisions, active)
    elif failed is not None and now.retry_due:
        changes[failed.name] = failed.at(Phase.RETIRED)
    prove = None
    candidate = _candidate(_after(now.revisions, changes.values()))
    if candidate is not None and not now.stopped and failed is None and _is_up(now, candidate):
        if candidate.name in now.proven:
            changes[candidate.name] = candidate.at(Phase.ACTIVE)
            if active is not None:
                changes[active.name] = active.at(Phase.DRAINING)
        else:
            prove = candidate
    if not now.stopped:
        for revision in now.revisions:
            if revision.phase is Phase.DRAINING and revision.name not in changes and _is_left(now, revision):
                changes[revision.name] = revision.at(Phase.RETIRED)
    forget = tuple(
        r for r in now.revisions
        if r.phase is Phase.RETIRED and r.name not in changes
        and now.view is not None and now.view.is_gone(r.ray_cluster, r.application)
    )  # fmt: skip
    # The revision that takes the traffic is written first: dying in between leaves two active ones, never none.
    ordered = tuple(sorted(changes.values(), key=lambda r: (r.phase is not Phase.ACTIVE, r.number)))
    return Steps(ordered, prove, forget, _after(now.revisions, ordered), failed)


def _stop(now: Situation, active: Revision | None) -> dict[str, Revision]:
    """Take everything down once the gateways refuse; the revision that served last is remembered."""
    refused = now.routed == "" and now.settled
    served = [r for r in now.revisions if r.proved and r.phase is not Phase.RETIRED]
    remembered = active or max(served, key=lambda r: r.number, default=None)
    changes = {}
    for revision in now.revisions:
        if revision is remembered:
            if revision.phase is not Phase.STOPPED and refused:
                changes[revision.name] = revision.at(Phase.STOPPED)
        elif revision.phase is not Phase.RETIRED and (refused or not revision.proved):
            changes[revision.name] = revision.at(Phase.RETIRED)
    return changes


def _bring_up(wanted: Resolved, revisions: tuple[Revision, ...], active: Revision | None) -> dict[str, Revision]:
    """Make the wanted revision a candidate, unless it is active, and retire the candidates that nobody wants."""
    changes: dict[str, Revision] = {}
    target = active if active is not None and _fits(active, wanted) else _standing(wanted, revisions)
    for revision in revisions:
        if revision is not target and revision.phase in (Phase.CANDIDATE, Phase.STOPPED):
            # One that was called back while it drained may not have been left by every gateway.
            drains = revision.phase is Phase.CANDIDATE and revision.proved
            changes[revision.name] = revision.at(Phase.DRAINING if drains else Phase.RETIRED)
    number = max((r.number for r in revisions), default=0) + 1
    if target is None:
        if all(r.name != wanted.revision for r in revisions):
            changes[wanted.revision] = new_revision(wanted, number)
    elif target.phase in (Phase.DRAINING, Phase.STOPPED):
        changes[target.name] = target.at(Phase.CANDIDATE, number)
    return changes


def _fits(revision: Revision, wanted: Resolved) -> bool:
    """Whether `revision` is what is wanted.

    One that has served before counts by what the user wrote, however it would be rendered today; one that never
    proved itself only if it would be rendered the same, so that correcting a pool or an image reaches it.
    """
    if not revision.proved:
        return revision.name == wanted.revision
    return revision.spec_hash == wanted.spec_hash and revision.ray_cluster == wanted.ray_cluster


def _standing(wanted: Resolved, revisions: Iterable[Revision]) -> Revision | None:
    """A revision to go on with instead of making a new one."""
    waiting = (Phase.CANDIDATE, Phase.DRAINING, Phase.STOPPED)
    fitting = [r for r in revisions if r.phase in waiting and _fits(r, wanted)]
    return max(fitting, key=lambda r: r.number, default=None)


def _is_left(now: Situation, revision: Revision) -> bool:
    """Whether every gateway is known to lead elsewhere, and nothing is on its way any more."""
    return now.settled and now.routed is not None and now.routed != revision.name


def _candidate(revisions: Iterable[Revision]) -> Revision | None:
    return next((r for r in revisions if r.phase is Phase.CANDIDATE), None)


def _facts(now: Situation, revision: Revision) -> ApplicationFacts | None:
    return now.view.application(revision.ray_cluster, revision.application) if now.view else None


def _is_up(now: Situation, revision: Revision) -> bool:
    facts = _facts(now, revision)
    return facts is not None and facts.status == "RUNNING" and 0 < facts.target <= facts.running


def _failed(now: Situation, active: Revision | None) -> Revision | None:
    """What is wanted, as a candidate or as an active revision without any replica, if Ray Serve gave up on it."""
    candidate = _candidate(now.revisions)
    if candidate is not None:
        is_wanted = now.wanted is None or _fits(candidate, now.wanted)
        return candidate if is_wanted and _gave_up(now, candidate) else None
    if active is not None and (now.wanted is None or _fits(active, now.wanted)) and _gave_up(now, active):
        return active
    return None


def _gave_up(now: Situation, revision: Revision) -> bool:
    facts = _facts(now, revision)
    return facts is not None and facts.status == "DEPLOY_FAILED" and facts.running == 0


def _after(revisions: Iterable[Revision], changes: Iterable[Revision]) -> tuple[Revision, ...]:
    merged = {r.name: r for r in revisions} | {r.name: r for r in changes}
    return tuple(sorted(merged.values(), key=lambda r: r.number))
