"""How far the downloads of candidates are: asked of their pods, and seldom, for each answer is a write of a status."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelyard_operator.desired.names import METRICS_PORT
from modelyard_operator.desired.revision import Phase, Revision
from modelyard_operator.observed.downloads import Download
from modelyard_operator.observed.view import ClusterView
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.result import Key

ASK_EVERY = timedelta(seconds=15)
"""Ray's own numbers are ten seconds old at most."""

_ASKED = 4
"""Pods that speak for all replicas."""


@dataclass(frozen=True)
class _Look:
    revision: str
    at: datetime
    download: Download | None


class Downloads:
    """Remembers what was last seen of each service's candidate; losing it costs a question."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._last: dict[Key, _Look] = {}

    def forget(self, key: Key) -> None:
        """The service is gone."""
        self._last.pop(key, None)

    async def of(self, key: Key, revisions: tuple[Revision, ...], view: ClusterView | None) -> Download | None:
        """The download that the candidate of the service `key` waits for; None where it waits for none."""
        candidate = next((r for r in revisions if r.phase is Phase.CANDIDATE and r.is_downloaded), None)
        addresses = _pods_that_start(candidate, view) if candidate is not None and view is not None else ()
        if candidate is None or not addresses:
            self.forget(key)
            return None
        last, now = self._last.get(key), self._app.clock()
        if last is not None and last.revision == candidate.name and now - last.at < ASK_EVERY:
            return last.download
        service = f"{key.namespace}/{key.name}"
        asked = [
            self._app.prober.download(f"{address}:{METRICS_PORT}", service, candidate.name) for address in addresses
        ]
        told = [download for download in await asyncio.gather(*asked) if download is not None]
        found = max(told, key=lambda download: download.done, default=None)
        before = last.download if last is not None and last.revision == candidate.name else None
        if last is not None and before is not None and found is not None:
            rate = (found.done - before.done) / (now - last.at).total_seconds()
            found = replace(found, per_second=max(0, round(rate)))
        self._last[key] = _Look(candidate.name, now, found)
        return found


def _pods_that_start(candidate: Revision, view: ClusterView) -> tuple[str, ...]:
    """Addresses of pods where replicas of the candidate are, as long as not all of them serve."""
    application = view.application(candidate.ray_cluster, candidate.application)
    if application is None or application.running >= max(1, application.target):
        return ()
    return application.placed[:_ASKED]
