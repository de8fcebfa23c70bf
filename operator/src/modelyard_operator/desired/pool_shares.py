"""Who gets how many workers of a pool whose limits do not satisfy everybody.

Ray's autoscaler of each RayCluster moves on its own, so the limits of a pool hold over all of them only because the
operator gives each Serve application a most number of replicas, and each worker group a most number of workers, that
together stay within. `pool_shares` decides them: pure, deterministic, the same wherever and however often it is asked.
See docs/design/pool-limits.md.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Group(NamedTuple):
    """A worker group of a RayCluster."""

    namespace: str
    ray_cluster: str
    name: str


@dataclass(frozen=True)
class Limits:
    """Most workers; None is no limit."""

    total: int | None = None
    """Over all ServingClusters and namespaces."""
    per_namespace: int | None = None
    """Of each namespace that `namespaces` does not name."""
    namespaces: Mapping[str, int] = field(default_factory=dict)
    group: int | None = None
    """Of one worker group."""

    def of(self, namespace: str) -> int | None:
        """Most workers of the services of one namespace."""
        return self.namespaces.get(namespace, self.per_namespace)


@dataclass(frozen=True)
class Demand:
    """What one revision asks of the pool, and what it has. Numbers are replicas."""

    namespace: str
    application: str
    """Its Serve application: unique over all clusters."""
    group: Group
    least: int
    """Its fixed number, or its minimum."""
    most: int
    wanted: int
    """What it would use now: `least`, or one more than Ray Serve's autoscaler asks for, so that it can show more."""
    held: int = 0
    """Replicas that have a worker now, those that finish their last requests included."""
    given: int = 0
    """The most that it was given last, as far as Ray Serve may still act on it."""
    target: int = 0
    """Replicas that Ray Serve is to run now, those that still start included."""
    starts_with: int = 1
    """An update begins with so many replicas or not at all: the switch must lose no capacity."""
    per_worker: int = 1
    """Replicas that share a worker."""

    @property
    def used(self) -> int:
        """Replicas that have a worker or are about to."""
        return max(self.held, self.target)

    @property
    def needed(self) -> int:
        """What it has use for now, as far as that is known."""
        return max(self.least, min(self.target, self.most))

    @property
    def taken(self) -> int:
        """What cannot be given to others yet."""
        return max(self.held, self.given)


@dataclass(frozen=True)
class Shares:
    """Who may have how much."""

    replicas: Mapping[str, int]
    """By application, the most replicas that it may have now; 0 for one that cannot begin."""
    goals: Mapping[str, int]
    """By application, what it will have when others have let go of what they must."""
    groups: Mapping[Group, int]
    """The most workers of each group: never fewer than stand, for Ray would end them with their requests."""


def pool_shares(limits: Limits, demands: Iterable[Demand], workers: Mapping[Group, int]) -> Shares:
    """Divide a pool; `workers` are the pods that stand in each group.

    The limits are never exceeded by what is given, only by what was there before they were lowered. What a running
    service has of its minimum is never taken away. The rest is max-min fair between namespaces: first what is wanted
    now, then room to grow. What is taken from one is given to another only when its workers are free.
    """
    asked = sorted(demands, key=lambda demand: demand.application)
    goals = _goals(limits, asked)
    hands = _Hands(limits, {d.application: d.taken for d in asked}, asked, workers)
    hands.deal(asked, goals)
    replicas = {}
    for one in asked:
        given = min(goals[one.application], hands.counts[one.application])
        begins = one.taken > 0 or given >= min(one.starts_with, goals[one.application])
        replicas[one.application] = given if begins else 0
    return Shares(replicas=replicas, goals=goals, groups=_group_sizes(limits, asked, replicas, workers))


def room_for(limits: Limits, demands: Iterable[Demand], newcomer: Demand) -> int:
    """How many of its replicas `newcomer` would come to have beside the others, once those give back what they must."""
    asked = sorted([*demands, newcomer], key=lambda demand: demand.application)
    return _goals(limits, asked)[newcomer.application]


def workers_of(demands: Iterable[Demand]) -> dict[str, int]:
    """Workers in use by namespace; one that several namespaces share counts for each of them."""
    inside: Counter[tuple[str, Group]] = Counter()
    per_worker = {}
    for one in demands:
        inside[one.namespace, one.group] += one.used
        per_worker[one.group] = one.per_worker
    used: Counter[str] = Counter()
    for (namespace, group), replicas in inside.items():
        used[namespace] += _workers(replicas, per_worker[group])
    return {namespace: count for namespace, count in sorted(used.items()) if count}


def total_workers(demands: Iterable[Demand], workers: Mapping[Group, int]) -> int:
    """Workers in use in all; those that stand without a replica are among them."""
    inside: Counter[Group] = Counter()
    per_worker = {}
    for one in demands:
        inside[one.group] += one.used
        per_worker[one.group] = one.per_worker
    sizes = {group: _workers(replicas, per_worker[group]) for group, replicas in inside.items()}
    return sum(max(sizes.get(group, 0), workers.get(group, 0)) for group in {*sizes, *workers})


def _goals(limits: Limits, asked: list[Demand]) -> dict[str, int]:
    """What each one should come to, as if nothing had to be waited for."""
    excluded: set[str] = set()
    while True:
        hands = _Hands(limits, {d.application: min(d.least, d.held) for d in asked}, asked, {})
        taking = [d for d in asked if d.application not in excluded]
        hands.deal(taking, {d.application: d.wanted for d in taking})
        hands.deal(taking, {d.application: d.most for d in taking})
        short = [
            d.application
            for d in taking
            if d.taken == 0 and 0 < hands.counts[d.application] < min(d.starts_with, d.most)
        ]
        if not short:
            return hands.counts
        # What it cannot begin with would only be kept from others.
        excluded.add(short[-1])


_Turn = tuple[bool, int, bool, bool, str, Demand]
"""When a demand comes to its turn in its namespace, and itself."""


class _Hands:
    """Deals replicas one by one, always to the namespace that has the fewest workers."""

    def __init__(
        self, limits: Limits, start: Mapping[str, int], asked: Iterable[Demand], workers: Mapping[Group, int]
    ) -> None:
        self._limits = limits
        self._stand = workers
        self.counts = dict(start)
        self._in_group: Counter[Group] = Counter()
        self._of_namespace: Counter[tuple[str, Group]] = Counter()
        per_worker = {}
        for one in asked:
            self._in_group[one.group] += start[one.application]
            self._of_namespace[one.namespace, one.group] += start[one.application]
            per_worker[one.group] = one.per_worker
        sizes = {group: _workers(count, per_worker[group]) for group, count in self._in_group.items()}
        self.total = sum(max(sizes.get(group, 0), workers.get(group, 0)) for group in {*sizes, *workers})
        self.namespaces: Counter[str] = Counter()
        for (namespace, group), count in self._of_namespace.items():
            self.namespaces[namespace] += _workers(count, per_worker[group])
        self._had: Counter[str] = Counter()
        for one in asked:
            self._had[one.namespace] += one.taken

    def deal(self, asked: Iterable[Demand], ceilings: Mapping[str, int]) -> None:
        """Give each one up to its ceiling, as far as the limits go."""
        wants: dict[str, list[_Turn]] = {}
        for one in asked:
            if self.counts[one.application] < ceilings[one.application]:
                wants.setdefault(one.namespace, []).append(self._turn(one))
        for queue in wants.values():
            heapq.heapify(queue)
        poorest = [self._rank(namespace, queue) for namespace, queue in wants.items()]
        heapq.heapify(poorest)
        while poorest:
            namespace = heapq.heappop(poorest)[-1]
            queue = wants[namespace]
            one = heapq.heappop(queue)[-1]
            if self._give(one) and self.counts[one.application] < ceilings[one.application]:
                heapq.heappush(queue, self._turn(one))
            if queue:
                heapq.heappush(poorest, self._rank(namespace, queue))

    def _rank(self, namespace: str, queue: list["_Turn"]) -> tuple[int, bool, bool, str]:
        """The poorest first; of equals who needs it, then who has it anyway, so that nothing moves without a cause."""
        count, one = self.namespaces[namespace], queue[0][-1]
        return count, self.counts[one.application] >= one.needed, count >= self._had[namespace], namespace

    def _turn(self, one: Demand) -> "_Turn":
        """Within a namespace: minimums first, then who has the fewest, who needs it, and who has it anyway."""
        count = self.counts[one.application]
        return count >= one.least, count, count >= one.needed, count >= one.taken, one.application, one

    def _give(self, one: Demand) -> bool:
        """One more replica, if the limits allow it."""
        group, limits = one.group, self._limits
        inside = self._in_group[group] + 1
        size = max(_workers(inside, one.per_worker), self._stand.get(group, 0))
        before = max(_workers(inside - 1, one.per_worker), self._stand.get(group, 0))
        own = self._of_namespace[one.namespace, group] + 1
        more = _workers(own, one.per_worker) - _workers(own - 1, one.per_worker)
        most = limits.of(one.namespace)
        if (
            (limits.total is not None and self.total + size - before > limits.total)
            or (limits.group is not None and size > limits.group)
            or (more and most is not None and self.namespaces[one.namespace] + 1 > most)
        ):
            return False
        self.counts[one.application] += 1
        self._in_group[group], self._of_namespace[one.namespace, group] = inside, own
        self.total += size - before
        self.namespaces[one.namespace] += more
        return True


def _group_sizes(
    limits: Limits, asked: Iterable[Demand], replicas: Mapping[str, int], workers: Mapping[Group, int]
) -> dict[Group, int]:
    sums: Counter[Group] = Counter()
    per_worker = {}
    for one in asked:
        sums[one.group] += max(one.held, replicas[one.application])
        per_worker[one.group] = one.per_worker
    sizes = {group: max(_workers(count, per_worker[group]), workers.get(group, 0)) for group, count in sums.items()}
    if limits.group is None:
        return sizes
    return {group: max(min(size, limits.group), workers.get(group, 0)) for group, size in sizes.items()}


def _workers(replicas: int, per_worker: int) -> int:
    return -(-replicas // per_worker)
