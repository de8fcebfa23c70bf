"""What a pool's limits leave of what a service asks for, in words with numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PoolShare:
    """What one revision has of a pool with limits."""

    pool: str
    namespace: str
    share: int
    """Replicas that it may have now."""
    least: int
    """Replicas that it should have: its fixed number, or its minimum."""
    most: int
    asks_more: bool
    """Whether its autoscaler has used up its share."""
    workers: int
    """In use in the whole pool."""
    total: int | None
    namespaces: Mapping[str, int] = field(default_factory=dict)
    """In use by namespace."""
    own_limit: int | None = None
    """Of the service's namespace."""

    @property
    def is_short(self) -> bool:
        """Whether it is held below what it should have."""
        return self.share < self.least

    @property
    def is_bound(self) -> bool:
        """Whether it would grow if it could."""
        return self.is_short or (self.asks_more and self.share < self.most)


def pool_words(share: PoolShare, holds: int) -> str:
    """Why a service that runs `holds` replicas has no more, and which setting changes that."""
    by_namespace = ", ".join(f"{name} {count}" for name, count in sorted(share.namespaces.items()))
    total = f"{share.workers} of {share.total}" if share.total is not None else str(share.workers)
    used = f"pool {share.pool} has {total} workers in use" + (f" ({by_namespace})" if by_namespace else "")
    own = share.namespaces.get(share.namespace, 0)
    at_own_limit = share.own_limit is not None and own >= share.own_limit
    if at_own_limit:
        used += f", namespace {share.namespace} {own} of {share.own_limit}"
    wanted = f"{share.least} wanted" if share.is_short else f"at most {share.most}"
    fields = [
        "limits.maxWorkers" if share.total is not None and not at_own_limit else "",
        "limits.namespaces or limits.maxWorkersPerNamespace" if at_own_limit else "",
    ]
    setting = next((each for each in fields if each), "limits")
    return (
        f"{used}; this service holds {holds} of {wanted}. It grows when others let go; to change it, have "
        f"spec.{setting} of AcceleratorPool {share.pool} raised, or lower the replicas of other services in it."
    )
