"""Dividing a pool: never above its limits, never below a running minimum, fair, and the same again and again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_operator.desired.pool_shares import (
    Demand,
    Group,
    Limits,
    Shares,
    pool_shares,
    room_for,
    workers_of,
)

GROUPS = (Group("models", "shared-1", "l4"), Group("models", "shared-1", "l4-2"), Group("team-b", "own-1", "l4"))
NAMESPACES = ("team-a", "team-b", "team-c")


def demand(application: str, *, least: int = 1, most: int = 1, wanted: int | None = None, **rest: int) -> Demand:
    """Named <namespace>.<name>; each in the one group."""
    namespace = application.partition(".")[0]
    return Demand(
        namespace=namespace,
        application=application,
        group=GROUPS[0],
        least=least,
        most=most,
        wanted=most if wanted is None else wanted,
        **rest,
    )


def divided(limits: Limits, *demands: Demand, workers: int | None = None) -> dict[str, int]:
    standing = sum(d.held for d in demands) if workers is None else workers
    return dict(pool_shares(limits, demands, {GROUPS[0]: standing}).replicas)


def test_where_all_fits_everybody_gets_the_most_that_it_asks_for() -> None:
    assert divided(Limits(total=8), demand("a.x", most=4), demand("b.y", most=4)) == {"a.x": 4, "b.y": 4}


def test_what_is_scarce_is_divided_between_namespaces_not_services() -> None:
    crowd = [demand(f"a.{i}", most=4) for i in range(3)]
    assert divided(Limits(total=6), *crowd, demand("b.y", most=4)) == {"a.0": 1, "a.1": 1, "a.2": 1, "b.y": 3}


def test_what_one_does_not_want_the_other_gets_but_for_one_to_show_that_it_wants_more() -> None:
    busy, idle = demand("a.x", most=8, wanted=7, held=6, given=6), demand("b.y", most=8, wanted=2, held=1, given=2)
    assert divided(Limits(total=8), busy, idle) == {"a.x": 6, "b.y": 2}


def test_room_to_grow_is_given_away_where_nobody_wants_it_now() -> None:
    one, other = (demand(name, most=8, wanted=2, held=1, given=2) for name in ("a.x", "b.y"))
    assert divided(Limits(total=8), one, other) == {"a.x": 4, "b.y": 4}


def test_of_equals_those_keep_it_who_have_it() -> None:
    has, asks = demand("a.z", held=1, given=1), demand("a.x")
    assert divided(Limits(total=1), has, asks) == {"a.z": 1, "a.x": 0}
    richer, other = demand("b.y", most=8, held=3, given=3), demand("a.x", most=8, held=2, given=2)
    assert divided(Limits(total=5), richer, other) == {"a.x": 2, "b.y": 3}


def test_of_equals_one_that_needs_it_comes_before_one_that_might() -> None:
    idle, short = (
        demand("a.x", most=2, wanted=2, held=1, given=1, target=1),
        demand("b.y", least=2, most=2, held=1, given=1),
    )
    assert divided(Limits(total=3), idle, short) == {"a.x": 1, "b.y": 2}
    assert divided(Limits(total=4), idle, short) == {"a.x": 2, "b.y": 2}
    both = [replace(idle, application="a.a"), replace(short, namespace="a", application="a.b")]
    assert divided(Limits(total=3), *both) == {"a.a": 1, "a.b": 2}


def test_a_namespace_has_its_own_limit() -> None:
    limits = Limits(total=8, per_namespace=4, namespaces={"b": 2})
    shares = divided(limits, demand("a.x", most=8), demand("b.y", most=8), demand("c.z", most=8))
    assert shares == {"a.x": 3, "b.y": 2, "c.z": 3}


def test_a_running_minimum_stays_however_many_others_wait() -> None:
    first, late = demand("a.x", least=7, most=7, held=7, given=7), demand("b.y", least=4, most=4)
    assert divided(Limits(total=8), first, late) == {"a.x": 7, "b.y": 1}


def test_what_is_above_a_minimum_is_given_back_and_handed_on_only_when_it_is_free() -> None:
    limits, rich = Limits(total=8), demand("a.x", least=1, most=8, held=8, given=8)
    poor = demand("b.y", least=3, most=3)
    shares = pool_shares(limits, [rich, poor], {GROUPS[0]: 8})
    assert shares.goals == {"a.x": 5, "b.y": 3}
    assert shares.replicas == {"a.x": 5, "b.y": 0}
    leaving = replace(rich, given=5, held=7)
    assert divided(limits, leaving, poor) == {"a.x": 5, "b.y": 1}
    assert divided(limits, replace(leaving, held=5), poor) == {"a.x": 5, "b.y": 3}


def test_what_was_given_and_not_used_counts_until_it_is_known_to_be_taken_back() -> None:
    idle = demand("a.x", least=1, most=8, wanted=2, held=1, given=8)
    poor = demand("b.y", least=3, most=3)
    assert divided(Limits(total=8), idle, poor) == {"a.x": 5, "b.y": 0}
    assert divided(Limits(total=8), replace(idle, given=5), poor) == {"a.x": 5, "b.y": 3}


def test_an_update_begins_whole_or_not_at_all() -> None:
    old = demand("a.x.1", least=2, most=2, held=2, given=2)
    new = demand("a.x.2", least=2, most=2, starts_with=2)
    assert divided(Limits(total=3), old, new) == {"a.x.1": 2, "a.x.2": 0}
    assert divided(Limits(total=4), old, new) == {"a.x.1": 2, "a.x.2": 2}
    busy = demand("b.z", most=5, wanted=5, held=5, given=5, target=5)
    shares = pool_shares(Limits(total=8), [old, new, busy], {GROUPS[0]: 7})
    assert shares.goals == {"a.x.1": 2, "a.x.2": 2, "b.z": 4}
    assert shares.replicas == {"a.x.1": 2, "a.x.2": 0, "b.z": 4}, "one free worker is not enough to begin with"
    waits = demand("b.y", most=1)
    assert divided(Limits(total=3), old, new, waits)["b.y"] == 1, "what it cannot begin with is not kept from others"


def test_a_worker_that_stands_without_a_replica_is_used_by_its_own_group_and_counts_for_the_others() -> None:
    same, other = demand("a.x"), replace(demand("b.y"), group=GROUPS[1])
    standing = {GROUPS[0]: 1}
    assert pool_shares(Limits(total=1), [same], standing).replicas == {"a.x": 1}
    assert pool_shares(Limits(total=1), [other], standing).replicas == {"b.y": 0}
    assert pool_shares(Limits(total=1), [other], {}).replicas == {"b.y": 1}


def test_a_group_has_room_for_what_comes_beside_what_still_finishes_requests() -> None:
    leaving, coming = demand("a.x", held=3, given=1), demand("b.y", least=2, most=2)
    shares = pool_shares(Limits(total=5), [leaving, coming], {GROUPS[0]: 3})
    assert shares.replicas == {"a.x": 1, "b.y": 2}
    assert shares.groups == {GROUPS[0]: 5}


def test_a_group_has_a_limit_too() -> None:
    assert divided(Limits(total=8, group=3), demand("a.x", most=8)) == {"a.x": 3}


def test_replicas_that_share_a_worker_count_together() -> None:
    shared = [demand(f"a.{i}", most=3, per_worker=4) for i in range(2)]
    assert divided(Limits(total=1), *shared) == {"a.0": 2, "a.1": 2}
    assert workers_of([replace(one, held=2) for one in shared]) == {"a": 1}


def test_a_newcomer_finds_the_room_that_others_must_give_back_and_no_more() -> None:
    minimum, loose = demand("a.x", least=3, most=3, held=3), demand("a.y", least=1, most=4, wanted=4, held=4)
    newcomer = demand("b.z", least=3, most=3)
    assert room_for(Limits(total=8), [minimum, loose], newcomer) == 3
    assert room_for(Limits(total=5), [minimum, loose], newcomer) == 1
    assert room_for(Limits(total=8, per_namespace=2), [minimum, loose], newcomer) == 2
    assert room_for(Limits(total=3), [minimum], newcomer) == 0


@st.composite
def situations(draw: st.DrawFn) -> tuple[Limits, list[Demand], dict[Group, int]]:
    """Pools with demands that stay within what could have been given before."""
    limit = st.none() | st.integers(1, 12)
    named = draw(st.dictionaries(st.sampled_from(NAMESPACES), st.integers(1, 6), max_size=2))
    limits = Limits(draw(limit), draw(limit), named, draw(limit))
    demands = []
    per_worker = {group: draw(st.sampled_from([1, 1, 2])) for group in GROUPS}
    for number in range(draw(st.integers(0, 7))):
        namespace = draw(st.sampled_from(NAMESPACES))
        group = draw(st.sampled_from(GROUPS))
        most = draw(st.integers(1, 8))
        least = draw(st.integers(0, most))
        demands.append(
            Demand(
                namespace, f"{namespace}.{number}", group, least, most, draw(st.integers(least, most)),
                held=draw(st.integers(0, 8)), given=draw(st.integers(0, 8)),
                starts_with=draw(st.integers(1, max(1, least))), per_worker=per_worker[group],
            )
        )  # fmt: skip
    idle = {group: draw(st.integers(0, 2)) for group in GROUPS}
    return limits, demands, {group: idle[group] + _size(demands, group, "held") for group in GROUPS}


def _size(demands: Iterable[Demand], group: Group, field: str) -> int:
    inside = [d for d in demands if d.group == group]
    return -(-sum(int(getattr(d, field)) for d in inside) // inside[0].per_worker) if inside else 0


def _cost(demands: list[Demand], replicas: Mapping[str, int]) -> tuple[int, Counter[str]]:
    """Workers in total and by namespace for so many replicas."""
    now = [replace(d, held=replicas[d.application]) for d in demands]
    return sum(_size(now, group, "held") for group in GROUPS), Counter(workers_of(now))


@given(situations())
def test_nothing_is_given_above_a_limit(situation: tuple[Limits, list[Demand], dict[Group, int]]) -> None:
    limits, demands, workers = situation
    shares = pool_shares(limits, demands, workers)
    may = {d.application: max(shares.replicas[d.application], d.taken) for d in demands}
    was = {d.application: d.taken for d in demands}
    total, own = _cost(demands, may)
    total_before, own_before = _cost(demands, was)
    if limits.total is not None:
        assert total <= max(limits.total, total_before)
    for namespace in NAMESPACES:
        most = limits.of(namespace)
        if most is not None:
            assert own[namespace] <= max(most, own_before[namespace])
    goal_total, goal_own = _cost(demands, shares.goals)
    kept_total, kept_own = _cost(demands, {d.application: min(d.least, d.held) for d in demands})
    assert limits.total is None or goal_total <= max(limits.total, kept_total)
    for namespace in NAMESPACES:
        most = limits.of(namespace)
        assert most is None or goal_own[namespace] <= max(most, kept_own[namespace])


@given(situations())
def test_no_running_minimum_and_no_standing_worker_is_taken_away(
    situation: tuple[Limits, list[Demand], dict[Group, int]],
) -> None:
    limits, demands, workers = situation
    shares = pool_shares(limits, demands, workers)
    for one in demands:
        if one.taken:
            assert shares.replicas[one.application] >= min(one.least, one.held)
        assert shares.replicas[one.application] <= one.most
        assert shares.groups[one.group] >= workers[one.group]


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_the_questions_does_not_matter(
    situation: tuple[Limits, list[Demand], dict[Group, int]], random: Random
) -> None:
    limits, demands, workers = situation
    shuffled = random.sample(demands, len(demands))
    assert pool_shares(limits, shuffled, workers) == pool_shares(limits, demands, workers)


@given(situations())
def test_it_comes_to_rest_at_its_goals(situation: tuple[Limits, list[Demand], dict[Group, int]]) -> None:
    limits, demands, workers = situation
    shares = pool_shares(limits, demands, workers)
    for _ in range(40):
        demands, workers = _obeyed(demands, shares)
        after = pool_shares(limits, demands, workers)
        if after == shares:
            break
        shares = after
    else:
        raise AssertionError("it goes on for ever")
    for one in demands:
        assert shares.replicas[one.application] == shares.goals[one.application]


def _obeyed(demands: list[Demand], shares: Shares) -> tuple[list[Demand], dict[Group, int]]:
    """The world a while later: everybody uses all that it wants of what it was given."""
    now = []
    for one in demands:
        may = shares.replicas[one.application]
        now.append(replace(one, given=may, held=min(may, max(one.wanted, one.least))))
    return now, {group: _size(now, group, "held") for group in GROUPS}


@given(situations())
def test_what_is_left_over_nobody_could_use(situation: tuple[Limits, list[Demand], dict[Group, int]]) -> None:
    limits, demands, workers = situation
    goals = pool_shares(limits, demands, workers).goals
    begun = [d for d in demands if goals[d.application] > 0 or d.starts_with <= 1 or d.taken > 0]
    for one in begun:
        if goals[one.application] < one.most:
            more = {**goals, one.application: goals[one.application] + 1}
            assert _is_above(limits, demands, more, goals), f"{one} could have one more"


def _is_above(limits: Limits, demands: list[Demand], more: Mapping[str, int], goals: Mapping[str, int]) -> bool:
    """Whether `more` than `goals` breaks a limit."""
    (total, own), (_, own_before) = _cost(demands, more), _cost(demands, goals)
    above = limits.total is not None and total > limits.total
    for namespace in NAMESPACES:
        most = limits.of(namespace)
        above = above or (most is not None and own[namespace] > own_before[namespace] and own[namespace] > most)
    now = [replace(d, held=more[d.application]) for d in demands]
    return above or (limits.group is not None and any(_size(now, g, "held") > limits.group for g in GROUPS))


@given(situations())
def test_no_namespace_could_have_more_without_making_a_poorer_one_poorer(
    situation: tuple[Limits, list[Demand], dict[Group, int]],
) -> None:
    limits, demands, _ = situation
    simple = [replace(d, wanted=d.most, held=0, given=0, starts_with=1, per_worker=1) for d in demands]
    goals = pool_shares(replace(limits, group=None), simple, {}).goals
    _, own = _cost(simple, goals)
    for one in simple:
        most = limits.of(one.namespace)
        wants = goals[one.application] < one.most and (most is None or own[one.namespace] < most)
        if wants:
            assert all(own[other] <= own[one.namespace] + 1 for other in NAMESPACES)


@pytest.mark.parametrize("extra", [0, 1])
def test_a_small_change_of_demand_moves_few_shares(extra: int) -> None:
    crowd = [demand(f"{ns}.{i}", least=1, most=6, wanted=3) for ns in ("a", "b", "c") for i in range(3)]
    before = divided(Limits(total=20), *crowd)
    after = divided(Limits(total=20 + extra), *crowd[:-1], replace(crowd[-1], wanted=4))
    assert sum(abs(before[name] - after[name]) for name in before) <= 2
