"""What the revisions on one RayCluster ask of the pools, and what their shares make of their applications."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard_operator.api.accelerator_pool import AcceleratorPoolSpec
from modelyard_operator.desired.names import parse_application_name
from modelyard_operator.desired.pool_shares import Demand, Group, Limits
from modelyard_operator.desired.revision import RUNNING_PHASES, Phase, Revision
from modelyard_operator.desired.worker_group import replicas_per_worker
from modelyard_operator.observed.serve import ApplicationFacts

Fragment = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """What one RayCluster asks and has of one pool."""

    demands: tuple[Demand, ...] = ()
    workers: Mapping[Group, int] = field(default_factory=dict)


def limits_of(spec: AcceleratorPoolSpec) -> Limits | None:
    """The limits of a pool over all clusters; None where it has none."""
    if spec.limits is None:
        return None
    return Limits(
        total=spec.limits.max_workers,
        per_namespace=spec.limits.max_workers_per_namespace,
        namespaces={each.name: each.max_workers for each in spec.limits.namespaces},
        group=spec.max_workers,
    )


def demand(
    revision: Revision,
    fragment: Fragment | None,
    applications: Mapping[str, ApplicationFacts] | None,
    active_replicas: int,
) -> Demand | None:
    """What `revision` asks, whose application should be `fragment`; None where it asks and has nothing.

    Where Serve cannot be asked (`applications` is None) one that has served is taken to have all that it may have.
    """
    facts = (applications or {}).get(revision.application)
    standing = _size(facts.config) if facts is not None and facts.config is not None else (0, 0)
    least, most = _size(fragment) if fragment is not None else standing
    if revision.phase not in RUNNING_PHASES:
        least = most = 0
    elif revision.phase is Phase.DRAINING and facts is not None:
        least, most = standing  # It ends as it is: nothing is gained by making it larger or smaller.
    group = Group(revision.cluster_key[0], revision.ray_cluster, revision.group["groupName"])
    target = facts.target if facts is not None else 0
    asleep = least == target == 0 and revision.phase is not Phase.CANDIDATE
    wanted = most if least == most else 0 if asleep else min(most, max(least, target + 1))
    shared = replicas_per_worker(revision.group)
    if applications is None:
        had = most if revision.proved else 0
        return Demand(
            revision.namespace, revision.application, group, least, most, least, held=had, given=had, per_worker=shared
        )
    held = len(facts.placed) if facts is not None else 0
    if not most and not held:
        return None
    return Demand(
        revision.namespace,
        revision.application,
        group,
        least,
        most,
        wanted,
        held=held,
        # One that sleeps may ask for a replica at any time, and keeps none from others until it does.
        given=0 if asleep else standing[1],
        target=min(target, standing[1]),
        starts_with=max(1, min(least, active_replicas)) if revision.phase is Phase.CANDIDATE else 1,
        per_worker=shared,
    )


def leftovers(
    applications: Mapping[str, ApplicationFacts], revisions: Collection[Revision], groups: Mapping[str, Group]
) -> list[Demand]:
    """Applications whose record is gone and that still finish requests; `groups` by the address of the worker."""
    known = {revision.application for revision in revisions}
    shared = {str(revision.group["groupName"]): replicas_per_worker(revision.group) for revision in revisions}
    found = []
    for name, facts in applications.items():
        parts = parse_application_name(name)
        held = Counter(groups[address] for address in facts.placed if address in groups)
        if parts is not None and name not in known and held:
            ((group, count),) = held.most_common(1)
            per_worker = shared.get(group.name, 1)
            found.append(Demand(parts[0], name, group, least=0, most=0, wanted=0, held=count, per_worker=per_worker))
    return found


def pools_of_groups(
    groups: Iterable[str], revisions: Iterable[Revision], pools: Mapping[str, AcceleratorPoolSpec]
) -> dict[str, str]:
    """The pool of each worker group, by the group's name.

    One that no revision names any more is known by its own name, which begins with those of its pool and shape.
    """
    named = {str(revision.group["groupName"]): str(revision.data["pool"]) for revision in revisions}
    begins = {f"{pool[:20]}-{shape.name[:12]}": pool for pool, spec in pools.items() for shape in spec.shapes}
    found = {group: named.get(group) or begins.get(group.rpartition("-")[0]) for group in groups}
    return {group: pool for group, pool in found.items() if pool is not None}


def within_shares(
    wanted: Mapping[str, dict[str, Any]],
    applications: Mapping[str, ApplicationFacts],
    shares: Mapping[str, int | None],
) -> dict[str, dict[str, Any]]:
    """`wanted` with no application larger than its share.

    One without an entry in `shares` has no limit. Of one with None it is not known yet: it stays as it stands. One that
    may not have any replica does not begin; where it is there already, Serve can do no less than one.
    """
    fitted = {}
    for name, fragment in wanted.items():
        facts = applications.get(name)
        standing = facts.config if facts is not None else None
        share = shares.get(name, _NO_LIMIT)
        if share is None:
            if standing is not None:
                fitted[name] = standing
        elif share > 0 or standing is not None:
            fitted[name] = resized(fragment, max(1, share))
    return fitted


def resized(fragment: dict[str, Any], most: int) -> dict[str, Any]:
    """`fragment` with at most so many replicas."""
    (deployment,) = fragment["deployments"]
    if "num_replicas" in deployment:
        size: dict[str, Any] = {"num_replicas": min(deployment["num_replicas"], most)}
    else:
        auto = deployment["autoscaling_config"]
        bounded = {f: min(auto[f], most) for f in ("min_replicas", "initial_replicas", "max_replicas")}
        size = {"autoscaling_config": {**auto, **bounded}}
    return {**fragment, "deployments": [{**deployment, **size}]}


_NO_LIMIT = 1_000_000


def _size(application: Fragment) -> tuple[int, int]:
    """Fewest and most replicas of a Serve application."""
    (deployment,) = application["deployments"]
    if "num_replicas" in deployment:
        return int(deployment["num_replicas"]), int(deployment["num_replicas"])
    auto = deployment["autoscaling_config"]
    return int(auto["min_replicas"]), int(auto["max_replicas"])
