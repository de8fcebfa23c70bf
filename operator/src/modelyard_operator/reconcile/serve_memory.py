"""What the writer of one Serve config remembers of it: what Ray was given last, what it accepted, what it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from modelyard_operator.desired.serve_config import Fragment
from modelyard_operator.observed.serve import ApplicationFacts
from modelyard_operator.ray.client import ServeClient

RETRY_REFUSED = timedelta(seconds=60)
_MOST_NAMES = 3
"""How many applications an Event names for each thing that was done to them."""


@dataclass(frozen=True)
class _Refusal:
    fragment: Fragment
    message: str
    at: datetime


@dataclass(frozen=True)
class Head:
    """A run of a Ray head."""

    ray_cluster: str
    """The uid of its RayCluster."""
    pod: str
    started: datetime | None


@dataclass
class ServeMemory:
    """Of one RayCluster. Losing it costs a repeated refusal, and an Event about what others did meanwhile."""

    accepted: dict[str, Fragment] = field(default_factory=dict)
    """The last fragment of each application that Ray took; until its retirement."""
    written: dict[str, Fragment] | None = None
    """All applications as the operator last wrote or found them right; None where that is not certain."""
    written_at: datetime | None = None
    """When Ray last took a config."""
    refused: dict[str, _Refusal] = field(default_factory=dict)
    head: Head | None = None
    heard: tuple[ServeClient, Mapping[str, Any]] | None = None
    """Whom a look asked last, and the answer; None where a config was written since."""
    token: tuple[str, str] | None = None
    """The uid of the RayCluster, and its dashboard's token; None where it must be read, perhaps anew."""

    def saw(self, head: Head, applications: Mapping[str, ApplicationFacts]) -> None:
        """Take in what Ray was given, as its head tells; another head may have forgotten all of it."""
        if head != self.head:
            self.head, self.written, self.refused = head, None, {}
        for name, facts in applications.items():
            if facts.config is not None:
                self.accepted.setdefault(name, facts.config)

    def agrees(self, standing: Mapping[str, Fragment]) -> None:
        """What stands is as it should be, whoever wrote it."""
        self.written = dict(standing)

    def took(self, applications: Mapping[str, Fragment], now: datetime) -> None:
        """Ray accepted `applications` as all that it should run."""
        self.written, self.written_at = dict(applications), now
        self.accepted |= applications
        for name, fragment in applications.items():
            if name in self.refused and self.refused[name].fragment == fragment:
                del self.refused[name]

    def refuse(self, name: str, fragment: Fragment, message: str, now: datetime) -> None:
        """Ray refuses the application for what stands in its own fragment."""
        self.refused[name] = _Refusal(fragment, message, now)

    def forget(self, name: str) -> None:
        """The application is retired."""
        self.accepted.pop(name, None)
        self.refused.pop(name, None)

    def acceptable(self, wanted: Mapping[str, Fragment], now: datetime) -> dict[str, Fragment]:
        """`wanted` with the last accepted fragment in place of one that was refused a short time ago, or without it."""
        self.refused = {n: r for n, r in self.refused.items() if n in wanted and wanted[n] == r.fragment}
        waiting = {name for name, refusal in self.refused.items() if now - refusal.at < RETRY_REFUSED}
        kept = {name: self.accepted[name] for name in waiting if name in self.accepted}
        return {**{name: fragment for name, fragment in wanted.items() if name not in waiting}, **kept}

    def drift(self, applications: Mapping[str, ApplicationFacts]) -> str:
        """What somebody else did to what was written; empty where nobody did, or nobody knows."""
        if self.written is None:
            return ""
        standing = {name: facts.config for name, facts in applications.items() if facts.config is not None}
        done = {
            "changed": [n for n, fragment in self.written.items() if n in standing and standing[n] != fragment],
            "removed": [n for n in self.written if n not in standing],
            "added": [n for n in standing if n not in self.written],
        }
        return ", ".join(f"{verb} {_listed(names)}" for verb, names in done.items() if names)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(sorted(names)[:_MOST_NAMES]) + more
