"""Two loops that look at one pool never give away the same worker, and wake each other."""

from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard_operator.desired.pool_demand import Part
from modelyard_operator.desired.pool_shares import Demand, Group, Limits
from modelyard_operator.reconcile.pool_ledger import Place, PoolLedger
from modelyard_operator.reconcile.result import Key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HERE, THERE = Place(Key("models", "shared"), "shared-1"), Place(Key("team-b", "own"), "own-1")


def asks(place: Place, **numbers: Any) -> dict[str, Part]:
    """One application, named after the namespace of its cluster."""
    namespace = place.cluster.namespace
    group = Group(namespace, place.ray_cluster, "cpu-small-1")
    one = Demand(namespace, namespace, group, **{"least": 1, "most": 3, "wanted": 3, **numbers})
    return {"cpu": Part((one,), {group: one.held})}


def ledger(total: int, *places: Place) -> tuple[PoolLedger, Limits]:
    made = PoolLedger()
    made.expect("cpu", places, NOW)
    return made, Limits(total=total)


def test_what_one_was_promised_is_not_given_to_another_before_it_is_seen_to_have_it() -> None:
    pool, limits = ledger(3)
    pool.note(HERE, asks(HERE))
    pool.decide("cpu", limits, NOW)
    assert pool.share("cpu", "models") == 3
    pool.note(THERE, asks(THERE, least=3))
    pool.decide("cpu", limits, NOW)
    assert pool.share("cpu", "team-b") == 0, "the first may be taking all of it right now"
    pool.note(HERE, asks(HERE, held=1, given=1))
    pool.decide("cpu", limits, NOW)
    assert pool.share("cpu", "team-b") == 2, "it has been looked at, and took one"


def test_who_is_given_something_else_is_named_to_be_woken() -> None:
    pool, limits = ledger(4)
    pool.note(HERE, asks(HERE, held=3, given=3))
    assert pool.decide("cpu", limits, NOW) == {HERE}
    pool.note(THERE, asks(THERE, least=2))
    assert pool.decide("cpu", limits, NOW) == {HERE, THERE}
    assert pool.decide("cpu", limits, NOW) == set()


def test_nothing_is_given_until_all_have_been_noted_or_have_had_their_time() -> None:
    pool, limits = ledger(4, HERE, THERE)
    pool.note(HERE, asks(HERE))
    pool.decide("cpu", limits, NOW)
    assert pool.share("cpu", "models") is None
    pool.decide("cpu", limits, NOW + timedelta(seconds=31))
    assert pool.share("cpu", "models") == 3


def test_what_is_gone_counts_no_more() -> None:
    pool, limits = ledger(3)
    pool.note(HERE, asks(HERE, least=3, held=3, given=3))
    pool.note(THERE, asks(THERE, least=3))
    pool.decide("cpu", limits, NOW)
    assert (pool.usage("cpu").workers, pool.share("cpu", "team-b")) == (3, 0)
    pool.forget(HERE.cluster)
    pool.decide("cpu", limits, NOW)
    assert (pool.usage("cpu").workers, pool.share("cpu", "team-b")) == (0, 3)


def test_a_pool_that_loses_its_limits_binds_nobody() -> None:
    pool, limits = ledger(1)
    pool.note(HERE, asks(HERE))
    pool.decide("cpu", limits, NOW)
    pool.decide("cpu", None, NOW)
    assert pool.share("cpu", "models") is None
    assert pool.usage("cpu").limits is None
