"""The one document that Ray Serve gets: whole, sorted, and never without what is not retired."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.desired.samples import revision, service

from modelyard_operator.desired.revision import RUNNING_PHASES, Phase
from modelyard_operator.desired.scaling import scaling
from modelyard_operator.desired.serve_config import Tenant, fragments, serve_change

NAMES = st.sampled_from(["a.a.1", "a.b.1", "a.b.2", "c.c.9", "other"])
CONFIGS = st.builds(lambda version: {"version": version}, st.integers(0, 2))


def _named(configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {"name": name, **config} for name, config in configs.items()}


@given(
    wanted=st.dictionaries(NAMES, CONFIGS),
    standing=st.dictionaries(NAMES, st.none() | CONFIGS),
    retired=st.sets(NAMES),
)
def test_nothing_goes_without_a_retirement_and_once_is_enough(
    wanted: dict[str, Any], standing: dict[str, Any], retired: set[str]
) -> None:
    wanted = _named(wanted)
    deployed = _named({name: config for name, config in standing.items() if config is not None})
    known: dict[str, dict[str, Any] | None] = {**dict.fromkeys(standing), **deployed}
    change = serve_change(wanted, known, retired)
    names = [application["name"] for application in change.config["applications"]]
    assert names == sorted(set(names))
    for name in deployed:
        assert name in names or name in retired
    assert set(change.removed) == set(deployed) - set(names)
    after: dict[str, dict[str, Any] | None] = {each["name"]: each for each in change.config["applications"]}
    imperative = {name: None for name, config in known.items() if config is None and name not in after}
    again = serve_change(wanted, {**after, **imperative}, retired)
    assert not again.needed
    assert again.config["applications"] == change.config["applications"]
    if not change.needed:
        assert {n: c for n, c in known.items() if c is not None} == after


@pytest.mark.parametrize("phase", list(Phase))
def test_only_revisions_that_should_run_are_in_the_config(phase: Phase) -> None:
    made = revision(phase)
    wanted = fragments([Tenant(service().spec, (made,))], made.ray_cluster)
    assert set(wanted) == ({made.application} if phase in RUNNING_PHASES else set())
    assert fragments([Tenant(service().spec, (made,))], "another") == {}
    assert fragments([Tenant(None, (made,))], made.ray_cluster) == {}


@pytest.mark.parametrize(
    ("spec", "phase", "active", "size"),
    [
        ({}, Phase.ACTIVE, 0, {"num_replicas": 1}),
        ({"replicas": 3}, Phase.ACTIVE, 1, {"num_replicas": 3}),
        ({"replicas": 0}, Phase.ACTIVE, 1, {"num_replicas": 1}),
        ({"autoscaling": {"minReplicas": 0, "maxReplicas": 4}}, Phase.ACTIVE, 3, (0, 1, 4)),
        ({"autoscaling": {"minReplicas": 0, "maxReplicas": 4}}, Phase.CANDIDATE, 0, (1, 1, 4)),
        ({"autoscaling": {"minReplicas": 1, "maxReplicas": 4}}, Phase.CANDIDATE, 3, (3, 3, 4)),
        ({"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}, Phase.CANDIDATE, 3, (2, 2, 2)),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, Phase.DRAINING, 3, (2, 2, 4)),
    ],
    ids=str,
)
def test_a_candidate_comes_up_as_large_as_what_serves(
    spec: dict[str, Any], phase: Phase, active: int, size: dict[str, int] | tuple[int, int, int]
) -> None:
    made = scaling(service(**spec).spec, phase, active)
    if isinstance(size, dict):
        assert made == size
    else:
        auto = made["autoscaling_config"]
        assert (auto["min_replicas"], auto["initial_replicas"], auto["max_replicas"]) == size


def test_delays_are_in_seconds_and_the_window_is_no_longer_than_the_delay() -> None:
    spec = service(autoscaling={"maxReplicas": 4, "upscaleDelay": "10s", "downscaleDelay": "1m30s"}).spec
    auto = scaling(spec, Phase.ACTIVE, 0)["autoscaling_config"]
    assert (auto["upscale_delay_s"], auto["downscale_delay_s"], auto["look_back_period_s"]) == (10.0, 90.0, 10.0)
