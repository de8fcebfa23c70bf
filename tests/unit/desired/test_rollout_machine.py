"""Rollouts in a simulated world where everything happens in any order.

The machine applies `next_steps` as the operator does, one write after the other, and may die after each. Ray Serve,
two gateways and the user act whenever they like; what the operator sees is as old as its last look. There are workers
for one revision and perhaps for a second one.
"""

from dataclasses import dataclass, replace
from functools import cache

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.desired.samples import PLATFORM, cluster, resolved, service

from modelyard_operator.desired.headroom import Capacity, Held, Room, room, worker_of
from modelyard_operator.desired.ray_cluster import ray_cluster_name
from modelyard_operator.desired.resolution import Resolved
from modelyard_operator.desired.revision import DOWN_PHASES, RUNNING_PHASES, Phase, Revision, new_revision
from modelyard_operator.desired.rollout import Situation, Steps, next_steps
from modelyard_operator.desired.routes import active_revision
from modelyard_operator.observed.kuberay import parse_ray_cluster
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.observed.view import ClusterView, RayClusterView

GOOD = ("pvc://models/a", "pvc://models/b", "pvc://models/c")
BAD = "pvc://models/bad"
STUCK = "pvc://models/stuck"
"""Never comes up, and nobody says why."""
RAY = ray_cluster_name(cluster())
_HEAD = parse_ray_cluster({"metadata": {"name": RAY}, "spec": {}})


@dataclass(frozen=True)
class App:
    status: str
    running: int
    uri: str
    target: int = 1


@cache
def _resolved(uri: str, image: str) -> Resolved:
    return resolved(service(uri), platform=replace(PLATFORM, image=image))


WORKER = worker_of("cpu", "small", new_revision(_resolved(GOOD[0], PLATFORM.image), 1).group)


class Rollout(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.uri, self.image = GOOD[0], PLATFORM.image
        self.resolvable, self.stopped = True, False
        self.replicas, self.workers, self.replace = 1, 2, False
        self.gaps = 0
        """How often requests were refused to make place, since the user did anything."""
        self.revisions: dict[str, Revision] = {}
        self.serve: dict[str, App] = {}
        self.published = ""
        self.gateways = ["", ""]
        self._forget_everything()

    def _forget_everything(self) -> None:
        self.view: ClusterView | None = None
        self.routed: str | None = None
        self.proven: set[str] = set()

    def _wanted(self) -> Resolved | None:
        return _resolved(self.uri, self.image) if self.resolvable else None

    def _room(self) -> Room:
        base = active_revision(self.revisions.values()) or next(
            (r for r in self.revisions.values() if r.phase in (Phase.YIELDING, Phase.REPLACED)), None
        )
        wanted = self._wanted()
        if base is None or wanted is None:
            return Room()
        used = sum(self.replicas for r in self.revisions.values() if r is base or r.phase is Phase.DRAINING)
        held = Held(self.replicas, same_pool=True, same_group=True)
        return room(WORKER, self.replicas, Capacity(self.workers, used), held)

    @initialize(uri=st.sampled_from(GOOD), serving=st.booleans(), replicas=st.integers(1, 3))
    def begin(self, uri: str, replicas: int, *, serving: bool) -> None:
        self.uri, self.replicas, self.workers = uri, replicas, 2 * replicas
        if serving:
            self.everything_settles_in_a_good_world()

    @rule(uri=st.sampled_from(GOOD), moments=st.integers(1, 5))
    def edit_and_wait(self, uri: str, moments: int) -> None:
        """All goes well, but the gateways hear nothing of it."""
        self.edit(uri)
        for _ in range(moments):
            self._look(retry_due=False)
            self.look_at_the_cluster()
            self.ray_makes_progress()
            self._see()

    # The user.

    @rule(uri=st.sampled_from([*GOOD, BAD, STUCK]))
    def edit(self, uri: str) -> None:
        self.uri, self.gaps = uri, 0

    @rule(replace=st.booleans())
    def choose_what_happens_without_room(self, *, replace: bool) -> None:
        self.replace, self.gaps = replace, 0

    @rule(more=st.integers(0, 3))
    def workers_come_and_go(self, more: int) -> None:
        self.workers = self.replicas + more

    @rule(stopped=st.booleans())
    def suspend_or_resume(self, stopped: bool) -> None:
        self.stopped, self.gaps = stopped, 0

    @rule(resolvable=st.booleans())
    def break_or_mend_a_reference(self, resolvable: bool) -> None:
        self.resolvable, self.gaps = resolvable, 0

    @rule(image=st.sampled_from(["serving:1", "serving:2"]))
    def upgrade_the_operator(self, image: str) -> None:
        self.image = image
        self._forget_everything()

    # The operator.

    @rule(
        dies_after=st.sampled_from([None, None, None, 0, 1, 2]),
        retry_due=st.booleans(),
        overdue=st.sampled_from([False, False, True]),
    )
    def look_at_the_service(self, dies_after: int | None, *, retry_due: bool, overdue: bool) -> None:
        self._look(dies_after, retry_due=retry_due, overdue=overdue)

    def _look(self, dies_after: int | None = None, *, retry_due: bool, overdue: bool = False) -> bool:
        """Gives whether anything was done."""
        steps = next_steps(
            Situation(
                wanted=self._wanted(),
                stopped=self.stopped,
                revisions=tuple(sorted(self.revisions.values(), key=lambda r: r.name)),
                view=self.view,
                routed=self.routed,
                proven=self.proven,
                retry_due=retry_due,
                overdue=overdue,
                room=self._room(),
                replace=self.replace,
            )
        )
        for written, change in enumerate(steps.changes):
            if dies_after == written:
                self._forget_everything()
                return True
            self._write(change, steps)
        proof = steps.prove
        if proof is not None and self._truly_up(proof):
            self.proven.add(proof.name)
        for gone in steps.forget:
            del self.revisions[gone.name]
        return bool(steps.changes or steps.forget or proof)

    def _write(self, change: Revision, steps: Steps) -> None:
        gave_up = steps.failed
        had_active = active_revision(self.revisions.values()) is not None
        before = self.revisions.get(change.name)
        self.revisions[change.name] = change
        excused = gave_up is not None and change.name == gave_up.name
        if change.phase in (Phase.RETIRED, Phase.STOPPED, Phase.REPLACED):
            self.proven.discard(change.name)
            # What never proved itself may still be routed to from an earlier life, which Ray Serve gave up on.
            if not excused and change.proved:
                assert change.name not in self.gateways, f"retired while a gateway leads to it: {before}"
                assert change.name != self.published, f"retired while the published route leads to it: {before}"
        if change.phase is Phase.YIELDING or (change.phase is Phase.ACTIVE and change.held_to is not None):
            assert self.replace or self._is_broken(change), "made place although it should wait"
        if change.phase is Phase.YIELDING:
            self.gaps += 1
            assert self.gaps == 1, "a second gap"
        elif had_active and not self.stopped and not excused:
            assert active_revision(self.revisions.values()) is not None, "a moment without an active revision"
        if change.phase is Phase.ACTIVE:
            served = before is not None and before.phase in (Phase.ACTIVE, Phase.YIELDING)
            assert served or change.name in self.proven, "active without a proof"

    def _is_broken(self, revision: Revision) -> bool:
        facts = self.view.application(RAY, revision.application) if self.view else None
        return facts is not None and facts.status == "DEPLOY_FAILED"

    @rule()
    def restart_the_operator(self) -> None:
        self._forget_everything()

    @rule()
    def look_at_the_cluster(self) -> None:
        """As the ServingCluster's loop does: write the Serve config, remember what was there before."""
        self._see()
        by_app = {r.application: r for r in self.revisions.values()}
        for app, standing in list(self.serve.items()):
            record = by_app.get(app)
            if record is not None:
                may_go = record.phase in DOWN_PHASES
            else:
                may_go = self.routed is not None and not app.endswith(self.routed or "-")
            if may_go:
                self.serve[app] = replace(standing, status="DELETING", running=0)
        for app, record in by_app.items():
            if record.phase in RUNNING_PHASES and app not in self.serve:
                uri = record.data["application"]["deployments"][0]["user_config"]["model"]["uri"]
                self.serve[app] = App("DEPLOYING", 0, uri)
            if app in self.serve and self.serve[app].status != "DELETING":
                target = min(self.replicas, record.held_to or self.replicas)
                self.serve[app] = replace(self.serve[app], target=target)

    def _see(self) -> None:
        applications = {
            name: ApplicationFacts(name, app.status, target=app.target, running=app.running)
            for name, app in self.serve.items()
        }
        self.view = ClusterView(RAY, {RAY: RayClusterView(_HEAD, (), applications)})

    @rule()
    def publish_routes(self) -> None:
        active = active_revision(self.revisions.values())
        document = "" if self.stopped or active is None else active.name
        if self.routed != document:
            self.routed = None
        self.published = document

    @rule()
    def ask_the_gateways(self) -> None:
        if all(applied == self.published for applied in self.gateways):
            self.routed = self.published

    # The world.

    @rule(gateway=st.integers(0, 1))
    def gateway_applies(self, gateway: int) -> None:
        self.gateways[gateway] = self.published

    @rule()
    def ray_makes_progress(self) -> None:
        for name, app in list(self.serve.items()):
            if app.status == "DELETING":
                del self.serve[name]
            elif app.status == "DEPLOYING" and app.uri == BAD:
                self.serve[name] = replace(app, status="DEPLOY_FAILED")
            elif app.status in ("DEPLOYING", "RUNNING") and app.uri != STUCK:
                free = self.workers - sum(other.running for other in self.serve.values()) + app.running
                running = max(min(app.running, app.target), min(app.target, free))
                self.serve[name] = replace(app, status="RUNNING" if running else app.status, running=running)

    @rule(which=st.integers(0, 3))
    def an_application_breaks(self, which: int) -> None:
        names = [name for name, app in sorted(self.serve.items()) if app.status == "RUNNING"]
        if which < len(names):
            self.serve[names[which]] = replace(self.serve[names[which]], status="DEPLOY_FAILED", running=0)

    @rule()
    def ray_loses_everything(self) -> None:
        self.serve.clear()

    def _truly_up(self, revision: Revision) -> bool:
        app = self.serve.get(revision.application)
        return app is not None and app.status == "RUNNING"

    @invariant()
    def there_is_at_most_one_candidate(self) -> None:
        assert sum(r.phase is Phase.CANDIDATE for r in self.revisions.values()) <= 1

    @rule()
    def everything_settles_in_a_good_world(self) -> None:
        """From wherever it stands, the rollout ends at exactly what is wanted."""
        if self.uri in (BAD, STUCK) or not self.resolvable:
            self.uri, self.resolvable = GOOD[0], True
        self.gaps, self.workers = 0, 3 * self.replicas
        fixed = self._what_must_not_change()
        for _ in range(40):
            self._round()
        assert not self._round(), "it never comes to rest"
        phases = {name: r.phase for name, r in self.revisions.items()}
        if self.stopped:
            assert list(phases.values()) in ([], [Phase.STOPPED])
            assert self.serve == {}
            assert set(self.gateways) == {""}
            return
        assert list(phases.values()) == [Phase.ACTIVE], phases
        (active,) = self.revisions.values()
        wanted = self._wanted()
        assert wanted is not None
        assert active.spec_hash == wanted.spec_hash
        assert fixed in (None, active.name), "a new default image moved a revision that was in order"
        assert {name: app.status for name, app in self.serve.items()} == {active.application: "RUNNING"}
        assert set(self.gateways) == {active.name}

    @rule(replace=st.booleans(), uri=st.sampled_from([*GOOD, BAD, STUCK]))
    def everything_settles_without_room(self, uri: str, *, replace: bool) -> None:
        """What served serves, or what is wanted does; nobody waits for what never comes."""
        self.everything_settles_in_a_good_world()
        if self.stopped:
            return
        (before,) = self.revisions.values()
        self.workers = self.replicas
        self.choose_what_happens_without_room(replace=replace)
        self.edit(uri)
        for moment in range(60):
            self._round(overdue=uri == STUCK and moment == 30)
        assert not self._round(), "it never comes to rest"
        (active,) = self.revisions.values()
        assert active.phase is Phase.ACTIVE
        assert active.held_to is None
        assert set(self.gateways) == {active.name}
        wanted = self._wanted()
        assert wanted is not None
        is_new = replace and uri in GOOD
        assert active.spec_hash == (wanted.spec_hash if is_new else before.spec_hash)
        app = self.serve[active.application]
        assert (app.status, app.running) == ("RUNNING", self.replicas)
        self.edit(GOOD[0])

    def _what_must_not_change(self) -> str | None:
        """The revision that has served what the spec says, and is not broken."""
        wanted = _resolved(self.uri, self.image)
        for revision in self.revisions.values():
            app = self.serve.get(revision.application)
            serves = revision.phase in (Phase.ACTIVE, Phase.STOPPED) and revision.spec_hash == wanted.spec_hash
            if serves and (app is None or app.status != "DEPLOY_FAILED"):
                return revision.name
        return None

    def _round(self, *, overdue: bool = False) -> bool:
        moved = self._look(retry_due=True, overdue=overdue)
        self.publish_routes()
        self.gateway_applies(0)
        self.gateway_applies(1)
        self.ask_the_gateways()
        self.look_at_the_cluster()
        self.ray_makes_progress()
        self._see()
        return moved

    def teardown(self) -> None:
        self.everything_settles_in_a_good_world()


TestRollout = Rollout.TestCase
TestRollout.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
