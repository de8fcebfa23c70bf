"""What all RayClusters ask and have of the pools, and what the pools' limits make of it.

Every loop of a ServingCluster notes what it sees and then asks for its shares; no step in between awaits anything, so
two loops never give away the same worker. Nothing here is kept: after a start it is noted anew, and until all have
noted what they have, everything stays as it stands.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from modelyard_operator.desired.pool_demand import Part
from modelyard_operator.desired.pool_shares import (
    Demand,
    Group,
    Limits,
    Shares,
    pool_shares,
    room_for,
    total_workers,
    workers_of,
)
from modelyard_operator.reconcile.result import Key
from modelyard_operator.status.pool_use import PoolShare

_NOTED_WITHIN = timedelta(seconds=30)
"""A RayCluster that has not been looked at by then is not waited for: its ServingCluster may be gone."""


class Place(NamedTuple):
    """A RayCluster of a ServingCluster."""

    cluster: Key
    ray_cluster: str


@dataclass(frozen=True)
class Usage:
    """What is used of a pool now."""

    workers: int
    namespaces: Mapping[str, int]
    limits: Limits | None


class PoolLedger:
    """The workers of all pools."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[Place, Part]] = {}
        self._promised: dict[str, int] = {}
        self._limits: dict[str, Limits | None] = {}
        self._shares: dict[str, Shares] = {}
        self._expected: dict[str, frozenset[Place]] = {}
        self._since: dict[str, datetime] = {}
        self.changes = 0
        """Differs from an earlier value where a share has changed since."""

    def expect(self, pool: str, places: Iterable[Place], now: datetime) -> None:
        """Which RayClusters have revisions in `pool`, from a complete LIST."""
        self._expected[pool] = frozenset(places)
        self._since[pool] = now
        self.changes += 1

    def is_expecting(self, pool: str) -> bool:
        """Whether `expect` was told of this pool."""
        return pool in self._expected

    def note(self, place: Place, parts: Mapping[str, Part]) -> None:
        """What a RayCluster asks and has now, by pool, right after its Serve was asked."""
        for pool in {*self._parts, *parts}:
            before = self._parts.setdefault(pool, {}).pop(place, Part())
            for one in before.demands:
                self._promised.pop(one.application, None)  # What it was given shows in what it has now.
            if pool in parts:
                self._parts[pool][place] = parts[pool]

    def knows(self, place: Place) -> bool:
        """Whether a RayCluster has been noted."""
        return any(place in parts for parts in self._parts.values())

    def forget(self, cluster: Key, keep: Iterable[str] = ()) -> None:
        """A ServingCluster has no RayClusters but `keep` any more."""
        kept = set(keep)
        for parts in self._parts.values():
            for place in [p for p in parts if p.cluster == cluster and p.ray_cluster not in kept]:
                del parts[place]

    def decide(self, pool: str, limits: Limits | None, now: datetime) -> set[Place]:
        """Divide `pool` anew; gives the RayClusters with applications that now have another share."""
        self._limits[pool] = limits
        if limits is None:
            self._shares.pop(pool, None)
            return set()
        if not self.is_complete(pool, now):
            return set()
        before = self._shares.get(pool)
        demands = [replace(d, given=max(d.given, self._promised.get(d.application, 0))) for d in self._demands(pool)]
        shares = self._shares[pool] = pool_shares(limits, demands, self._workers(pool))
        if shares != before:
            self.changes += 1
        for one in demands:
            self._promised[one.application] = max(one.given, shares.replicas[one.application])
        return {
            place
            for place, part in self._parts.get(pool, {}).items()
            for one in part.demands
            if before is None or before.replicas.get(one.application) != shares.replicas[one.application]
        }

    def share(self, pool: str, application: str) -> int | None:
        """The most replicas that an application of a pool with limits may have; None where that is not known yet."""
        shares = self._shares.get(pool)
        return shares.replicas.get(application) if shares else None

    def group_size(self, pool: str, group: Group) -> int | None:
        """The most workers of a group of a pool with limits; None where that is not known yet."""
        shares = self._shares.get(pool)
        return shares.groups.get(group) if shares else None

    def is_complete(self, pool: str, now: datetime) -> bool:
        """Whether all that have something of `pool` have been noted."""
        if pool not in self._expected:
            return False
        missing = self._expected[pool] - self._parts.get(pool, {}).keys()
        return not missing or now - self._since[pool] >= _NOTED_WITHIN

    def usage(self, pool: str) -> Usage:
        """What is in use of `pool`, as far as it has been noted."""
        demands = self._demands(pool)
        return Usage(
            workers=total_workers(demands, self._workers(pool)),
            namespaces=workers_of(demands),
            limits=self._limits.get(pool),
        )

    def room(self, pool: str, limits: Limits, newcomer: Demand) -> int:
        """How many replicas an application that is not there yet would come to have."""
        others = [one for one in self._demands(pool) if one.application != newcomer.application]
        return room_for(limits, others, newcomer)

    def demand(self, pool: str, application: str) -> Demand | None:
        """What an application asks and has, as last noted."""
        return next((d for d in self._demands(pool) if d.application == application), None)

    def bound(self, pool: str) -> list[str]:
        """Applications that have less of `pool` than they may ask for."""
        shares = self._shares.get(pool)
        return [d.application for d in self._demands(pool) if shares and shares.replicas.get(d.application, 0) < d.most]

    def _demands(self, pool: str) -> list[Demand]:
        return [one for part in self._parts.get(pool, {}).values() for one in part.demands]

    def _workers(self, pool: str) -> dict[Group, int]:
        parts = self._parts.get(pool, {}).values()
        return {group: count for part in parts for group, count in part.workers.items()}


def pool_share(ledger: PoolLedger, pool: str, application: str) -> PoolShare | None:
    """What an application has of `pool`, for its status; None without limits, or where that is not known yet."""
    share = ledger.share(pool, application)
    if share is None:
        return None  # Of most pools: without limits nothing need be counted.
    one, usage = ledger.demand(pool, application), ledger.usage(pool)
    if one is None or usage.limits is None:
        return None
    return PoolShare(
        pool=pool,
        namespace=one.namespace,
        share=share,
        least=one.least,
        most=one.most,
        asks_more=one.target >= share,
        workers=usage.workers,
        total=usage.limits.total,
        namespaces=usage.namespaces,
        own_limit=usage.limits.of(one.namespace),
    )
