"""What revisions ask of a pool, as it is seen in Serve's configs and replicas."""

from typing import Any

import pytest
from tests.unit.desired.samples import LARGE, pool, resolved, revision, service

from modelyard_operator.desired.pool_demand import demand, leftovers, limits_of, pools_of_groups, within_shares
from modelyard_operator.desired.pool_shares import Demand, Group, Limits
from modelyard_operator.desired.revision import Phase, Revision, new_revision
from modelyard_operator.desired.serve_config import Tenant, fragments
from modelyard_operator.observed.serve import ApplicationFacts

AUTO = service(autoscaling={"minReplicas": 1, "maxReplicas": 6})


def asked(
    of: Revision,
    *,
    spec: Any = AUTO,
    target: int = 0,
    running: int = 0,
    given: int | None = None,
    seen: bool = True,
    active_replicas: int = 0,
) -> Demand | None:
    """The demand of a revision of which Serve runs so many, with at most `given` where it knows of it."""
    wanted = fragments([Tenant(spec.spec, (of,), active_replicas)], of.ray_cluster)
    fragment = wanted.get(of.application)
    facts = {}
    if given is not None:
        standing = within_shares(wanted, {}, {of.application: given})[of.application]
        placed = tuple(f"10.1.0.{i}" for i in range(running))
        facts = {
            of.application: ApplicationFacts(
                of.application, "RUNNING", target=target, running=running, placed=placed, config=standing
            )
        }
    return demand(of, fragment, facts if seen else None, active_replicas)


def numbers(one: Demand | None) -> tuple[int, ...]:
    assert one is not None
    return one.least, one.most, one.wanted, one.held, one.given


def test_an_autoscaled_service_wants_one_more_than_ray_asks_for() -> None:
    one = asked(revision(of=AUTO), target=3, running=2, given=4)
    assert numbers(one) == (1, 6, 4, 2, 4)


def test_a_fixed_number_is_wanted_as_it_is() -> None:
    fixed = service(replicas=3)
    assert numbers(asked(revision(of=fixed), spec=fixed, target=1, running=1, given=1)) == (3, 3, 3, 1, 1)


def test_one_that_sleeps_wants_and_keeps_nothing() -> None:
    sleeper = service(autoscaling={"minReplicas": 0, "maxReplicas": 6})
    assert numbers(asked(revision(of=sleeper), spec=sleeper, given=6)) == (0, 6, 0, 0, 0)


def test_one_that_drains_ends_as_it_is() -> None:
    assert numbers(asked(revision(Phase.DRAINING, of=AUTO), target=2, running=2, given=3)) == (1, 3, 3, 2, 3)


def test_one_that_is_retired_has_what_still_runs_and_asks_nothing() -> None:
    gone = revision(Phase.RETIRED, of=AUTO)
    facts = ApplicationFacts(gone.application, "DELETING", placed=("10.1.0.1", "10.1.0.2"))
    assert numbers(demand(gone, None, {gone.application: facts}, 0)) == (0, 0, 0, 2, 0)
    assert demand(gone, None, {}, 0) is None


def test_an_update_begins_with_what_serves() -> None:
    one = asked(revision(Phase.CANDIDATE, of=AUTO), active_replicas=3)
    assert one is not None
    assert (one.least, one.starts_with) == (3, 3)
    first = asked(revision(Phase.CANDIDATE, of=AUTO))
    assert first is not None
    assert first.starts_with == 1


@pytest.mark.parametrize(("phase", "had"), [(Phase.ACTIVE, 6), (Phase.CANDIDATE, 0)])
def test_where_serve_cannot_be_asked_one_that_served_has_all_it_may(phase: Phase, had: int) -> None:
    one = asked(revision(phase, of=AUTO), seen=False)
    assert one is not None
    assert (one.held, one.given, one.wanted) == (had, had, one.least)


def test_replicas_that_share_a_worker_say_so() -> None:
    shape = {**LARGE, "replicasPerWorker": 2}
    one = asked(new_revision(resolved(AUTO, using=pool(shapes=[shape])), 1).at(Phase.ACTIVE))
    assert one is not None
    assert one.per_worker == 2


def test_an_application_without_a_record_has_the_workers_that_it_still_uses() -> None:
    group = Group("models", "shared-1", str(revision().group["groupName"]))
    facts = ApplicationFacts("team-z.old.12345678", "DELETING", placed=("10.1.0.1", "10.1.0.9"))
    (one,) = leftovers({facts.name: facts, "other": facts}, [revision()], {"10.1.0.1": group})
    assert (one.namespace, one.group, one.held, one.most) == ("team-z", group, 1, 0)


def test_a_group_that_nobody_names_is_known_by_its_name() -> None:
    pools = {"cpu": pool().spec, "cpu-small": pool().spec}
    known = str(revision().group["groupName"])
    found = pools_of_groups([known, "cpu-small-large-abcdef", "other-small-abcdef"], [revision()], pools)
    assert found == {known: "cpu", "cpu-small-large-abcdef": "cpu-small"}


def test_limits_are_read_from_the_pool() -> None:
    assert limits_of(pool().spec) is None
    limits = {"maxWorkers": 8, "maxWorkersPerNamespace": 4, "namespaces": [{"name": "a", "maxWorkers": 2}]}
    assert limits_of(pool(limits=limits, maxWorkers=3).spec) == Limits(8, 4, {"a": 2}, 3)
