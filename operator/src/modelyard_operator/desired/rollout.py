"""The next steps of a service's rollout: pure, so that every order of events can be tested.

A new revision comes up beside the active one, proves itself by a real inference, becomes active; when every gateway
has switched, the old one is retired, Ray Serve lets its requests finish, and its record goes.

Where both do not fit (`Room`), the new one waits, or the old one makes place as far as it must: it keeps fewer
replicas, or yields altogether. If what comes in its place does not start, the old one is as it was before, and makes
place for that no second time.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from modelyard_operator.desired.headroom import Room
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
    room: Room = field(default_factory=Room)
    """How what is wanted may come up."""
    replace: bool = False
    """Whether the active revision may make place where there is not enough room."""
    overdue: bool = False
    """Whether a candidate in another one's place has had long enough to start."""


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
    waits: bool = False
    """Whether what is wanted is not begun, for lack of room."""


def next_steps(now: Situation) -> Steps:
    """The steps that bring `now` nearer to what is wanted; no steps where there is nothing to do or only to wait."""
    changes: dict[str, Revision] = {}
    active = active_revision(now.revisions)
    for revision in now.revisions:
        if active is not None and revision is not active and revision.phase in (Phase.ACTIVE, Phase.YIELDING):
            changes[revision.name] = revision.at(Phase.DRAINING)
    failed = None if now.stopped else _failed(now, active)
    waits = False
    if now.stopped:
        changes |= _stop(now, active)
    elif restored := _restored(now, failed):
        changes |= restored
        failed = None
    elif failed is not None:
        if now.retry_due:
            changes[failed.name] = failed.at(Phase.REPLACED if _returns(failed, active) else Phase.RETIRED)
    else:
        brought, waits = _bring_up(now, active)
        changes |= brought
    prove, taken = (None, {}) if now.stopped or failed is not None else _take_over(now, active, changes)
    changes |= taken
    if not now.stopped:
        alone = _candidate(_after(now.revisions, changes.values())) is None
        if active is not None and active.held_to is not None and active.name not in changes and alone:
            changes[active.name] = replace(active, held_to=None)
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
    return Steps(ordered, prove, forget, _after(now.revisions, ordered), failed, waits)


def _take_over(
    now: Situation, active: Revision | None, changes: dict[str, Revision]
) -> tuple[Revision | None, dict[str, Revision]]:
    """Ask the candidate that is up for a proof, or let the one that has proved itself take over."""
    candidate = _candidate(_after(now.revisions, changes.values()))
    if candidate is None or not _is_up(now, candidate):
        return None, {}
    if candidate.name not in now.proven:
        return candidate, {}
    taken = {candidate.name: candidate.at(Phase.ACTIVE)}
    if active is not None:
        taken[active.name] = active.at(Phase.DRAINING)
    return None, taken


def _stop(now: Situation, active: Revision | None) -> dict[str, Revision]:
    """Take everything down once the gateways refuse; the revision that served last is remembered."""
    refused = _is_refused(now)
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


def _bring_up(now: Situation, active: Revision | None) -> tuple[dict[str, Revision], bool]:
    """Make the wanted revision a candidate, unless it is active, and take down the candidates that nobody wants.

    Also gives whether that waits for room.
    """
    changes = _yield(now, active)
    if now.wanted is None:
        return changes or _come_back(now, active), False
    target = _target(now.wanted, now.revisions, active)
    for revision in now.revisions:
        if revision is not target and revision.name not in changes:
            changes |= _unwanted(now, revision, active)
    standing = _after(now.revisions, changes.values())
    if active is None and any(r.phase in (Phase.ACTIVE, Phase.YIELDING) for r in standing):
        return changes, False
    number = max((r.number for r in now.revisions), default=0) + 1
    if target is not None and target.phase in (Phase.DRAINING, Phase.STOPPED):
        return changes | {target.name: target.at(Phase.CANDIDATE, number)}, False
    if target is not None and target.phase is Phase.REPLACED:
        if active is None:
            return changes | _come_back(now, active), False
        placed = _place(now, active, target.at(Phase.CANDIDATE, number))
    elif target is None and all(r.name != now.wanted.revision for r in now.revisions):
        placed = _place(now, active, new_revision(now.wanted, number))
    else:
        return changes, False
    return changes | placed, not placed


def _unwanted(now: Situation, revision: Revision, active: Revision | None) -> dict[str, Revision]:
    """What becomes of a revision that is neither wanted nor serves."""
    if revision.phase is Phase.REPLACED:
        # Until something else serves, it is what the service falls back to.
        return {} if active is None else {revision.name: revision.at(Phase.RETIRED)}
    if revision.phase is Phase.CANDIDATE and revision.proved:
        if revision.outlived and active is None and _is_refused(now):
            return {revision.name: revision.at(Phase.REPLACED)}
        # One that was called back while it drained may not have been left by every gateway.
        return {revision.name: revision.at(Phase.DRAINING)}
    if revision.phase in (Phase.CANDIDATE, Phase.STOPPED):
        return {revision.name: revision.at(Phase.RETIRED)}
    return {}


def _place(now: Situation, active: Revision | None, new: Revision) -> dict[str, Revision]:
    """Let `new` come up where there is room, or make place for it as far as that is allowed; nothing: it waits."""
    if active is None:
        return {new.name: replace(new, held_to=now.room.bring)}
    if now.room.beside:
        return {new.name: new}
    # What serves nothing has nothing to lose, and must not be in the way of its own correction.
    allowed = now.replace or _gave_up(now, active)
    leaving = any(r.phase in (Phase.DRAINING, Phase.RETIRED) for r in now.revisions)
    if not allowed or now.room.bring is None or leaving or active.outlived == new.asked:
        return {}
    if now.room.keep == 0:
        return {active.name: active.at(Phase.YIELDING)}
    changes = {new.name: replace(new, held_to=now.room.bring)}
    if now.room.keep != active.held_to:
        changes[active.name] = replace(active, held_to=now.room.keep)
    return changes


def _yield(now: Situation, active: Revision | None) -> dict[str, Revision]:
    """Take down what makes place once every gateway refuses; let it serve on where it need not go any more."""
    yielding = next((r for r in now.revisions if r.phase is Phase.YIELDING), None)
    if yielding is None or active is not None:
        return {}
    if now.wanted is None or fits(yielding, now.wanted):
        return {yielding.name: yielding.at(Phase.ACTIVE)}
    return {yielding.name: yielding.at(Phase.REPLACED)} if _is_refused(now) else {}


def _come_back(now: Situation, active: Revision | None) -> dict[str, Revision]:
    """Start what was replaced again, where nothing came in its place and its former run is over."""
    replaced = _latest(now.revisions, Phase.REPLACED)
    if replaced is None or active is not None or _candidate(now.revisions) is not None:
        return {}
    if now.view is None or not now.view.is_gone(replaced.ray_cluster, replaced.application):
        return {}
    number = max(r.number for r in now.revisions) + 1
    return {replaced.name: replaced.at(Phase.CANDIDATE, number)}


def _restored(now: Situation, failed: Revision | None) -> dict[str, Revision]:
    """Give the place back to the one that made it, where the candidate in it does not start."""
    candidate = _candidate(now.revisions)
    host = in_place_of(now.revisions)
    if candidate is None or host is None or not (failed is candidate or now.overdue):
        return {}
    return {
        host.name: replace(host, held_to=None, outlived=candidate.asked),
        candidate.name: candidate.at(Phase.DRAINING if candidate.proved else Phase.RETIRED),
    }


def in_place_of(revisions: tuple[Revision, ...]) -> Revision | None:
    """The revision whose place the candidate has taken, wholly or in part; None where it came up beside."""
    active = active_revision(revisions)
    if _candidate(revisions) is None:
        return None
    if active is not None:
        return active if active.held_to is not None else None
    return _latest(revisions, Phase.REPLACED)


def _returns(candidate: Revision, active: Revision | None) -> bool:
    """Whether a candidate comes back from having been replaced, and is all that the service has."""
    return candidate.phase is Phase.CANDIDATE and candidate.proved and bool(candidate.outlived) and active is None


def _target(wanted: Resolved, revisions: tuple[Revision, ...], active: Revision | None) -> Revision | None:
    """The revision to go on with instead of making a new one."""
    if active is not None and fits(active, wanted):
        return active
    if active is None:
        # What did not start in its place is not tried again before it is back.
        back = [r for r in revisions if r.outlived == wanted.asked and r.phase in (Phase.REPLACED, Phase.CANDIDATE)]
        if back:
            return max(back, key=lambda r: r.number)
    return _standing(wanted, revisions)


def fits(revision: Revision, wanted: Resolved) -> bool:
    """Whether `revision` is what is wanted.

    One that has served before counts by what the user wrote, however it would be rendered today; one that never
    proved itself only if it would be rendered the same, so that correcting a pool or an image reaches it.
    """
    if not revision.proved:
        return revision.name == wanted.revision
    return revision.spec_hash == wanted.spec_hash and revision.ray_cluster == wanted.ray_cluster


def _standing(wanted: Resolved, revisions: Iterable[Revision]) -> Revision | None:
    """A revision to go on with instead of making a new one."""
    waiting = (Phase.CANDIDATE, Phase.DRAINING, Phase.STOPPED, Phase.REPLACED)
    fitting = [r for r in revisions if r.phase in waiting and fits(r, wanted)]
    return max(fitting, key=lambda r: r.number, default=None)


def _is_refused(now: Situation) -> bool:
    """Whether every gateway refuses the service's requests, and none is on its way any more."""
    return now.routed == "" and now.settled


def _latest(revisions: Iterable[Revision], phase: Phase) -> Revision | None:
    return max((r for r in revisions if r.phase is phase), key=lambda r: r.number, default=None)


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
        is_wanted = now.wanted is None or fits(candidate, now.wanted) or candidate.outlived == now.wanted.asked
        return candidate if is_wanted and _gave_up(now, candidate) else None
    if active is not None and (now.wanted is None or fits(active, now.wanted)) and _gave_up(now, active):
        return active
    return None


def _gave_up(now: Situation, revision: Revision) -> bool:
    facts = _facts(now, revision)
    return facts is not None and facts.status == "DEPLOY_FAILED" and facts.running == 0


def _after(revisions: Iterable[Revision], changes: Iterable[Revision]) -> tuple[Revision, ...]:
    merged = {r.name: r for r in revisions} | {r.name: r for r in changes}
    return tuple(sorted(merged.values(), key=lambda r: r.number))
