"""What a pool's limits leave, in words and in the pool's status."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.desired.samples import pool

from modelyard_operator.api.accelerator_pool import AcceleratorPool, AcceleratorPoolStatus
from modelyard_operator.status.accelerator_pool import PoolUse, pool_status
from modelyard_operator.status.pool_use import PoolShare, pool_words

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FULL = PoolShare(
    pool="l4",
    namespace="team-b",
    share=1,
    least=2,
    most=2,
    asks_more=True,
    workers=8,
    total=8,
    namespaces={"team-b": 3, "team-a": 5},
)


def test_a_full_pool_is_told_with_who_has_what() -> None:
    assert pool_words(FULL, 1).startswith(
        "pool l4 has 8 of 8 workers in use (team-a 5, team-b 3); this service holds 1 of 2 wanted."
    )
    assert "spec.limits.maxWorkers of AcceleratorPool l4" in pool_words(FULL, 1)


def test_a_namespace_at_its_limit_is_told_and_which_field_it_is() -> None:
    words = pool_words(replace(FULL, total=None, own_limit=3), 1)
    assert words.startswith("pool l4 has 8 workers in use (team-a 5, team-b 3), namespace team-b 3 of 3; ")
    assert "spec.limits.namespaces or limits.maxWorkersPerNamespace" in words


@pytest.mark.parametrize(
    ("least", "most", "asks_more", "short", "bound"),
    [(2, 2, True, True, True), (1, 4, True, False, True), (1, 4, False, False, False), (1, 1, True, False, False)],
)
def test_who_is_held_back(*, least: int, most: int, asks_more: bool, short: bool, bound: bool) -> None:
    share = replace(FULL, least=least, most=most, asks_more=asks_more)
    assert (share.is_short, share.is_bound) == (short, bound)


def status(of: AcceleratorPool, use: PoolUse | None) -> dict[str, Any]:
    return pool_status(of, [], services=1, use=use, now=NOW).model_dump(
        include={"workers", "max_workers", "usage", "namespaces"}
    )


def test_a_pool_tells_its_use_beside_its_limits() -> None:
    limited = pool(limits={"maxWorkers": 8, "namespaces": [{"name": "team-c", "maxWorkers": 2}]})
    assert status(limited, PoolUse(5, {"team-a": 5})) == {
        "workers": 5,
        "max_workers": 8,
        "usage": "5/8",
        "namespaces": (
            {"name": "team-a", "workers": 5, "max_workers": None},
            {"name": "team-c", "workers": 0, "max_workers": 2},
        ),
    }
    assert status(pool(), PoolUse(5, {"team-a": 5}))["usage"] == "5"


def test_what_is_not_known_yet_stays_as_it_was_told() -> None:
    told = AcceleratorPoolStatus(workers=5, max_workers=8, usage="5/8")
    before = pool().model_copy(update={"status": told})
    assert status(before, None)["usage"] == "5/8"
