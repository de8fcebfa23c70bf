"""Kubernetes Events: what happened to an object, for `kubectl describe`."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from modelyard_operator.kube.client import KubeClient, Manifest
from modelyard_operator.kube.errors import KubeError

logger = logging.getLogger(__name__)

REPEAT_AFTER_S = 120.0
MAX_WAITING = 1000
"""Events that wait for the API server; more are dropped, for they tell and decide nothing."""
MAX_MESSAGE = 1024
COMPONENT = "modelyard-operator"


class EventRecorder:
    """Takes events without waiting and writes them in the background."""

    def __init__(self, kube: KubeClient, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._kube = kube
        self._now = now
        self._told: dict[tuple[str, str, str], datetime] = {}
        """What was told lately, oldest first."""
        self._waiting: asyncio.Queue[Manifest] = asyncio.Queue(MAX_WAITING)

    def publish(self, regarding: Manifest, *, warning: bool, reason: str, message: str) -> None:
        """Tell of `regarding` (its apiVersion, kind and metadata), the same thing once in two minutes.

        Neither blocks nor fails.
        """
        now = self._now()
        while self._told and (now - next(iter(self._told.values()))).total_seconds() >= REPEAT_AFTER_S:
            del self._told[next(iter(self._told))]
        identity = (regarding["metadata"].get("uid", regarding["metadata"]["name"]), reason, message)
        if identity in self._told:
            return
        self._told[identity] = now
        try:
            self._waiting.put_nowait(_event(regarding, "Warning" if warning else "Normal", reason, message, now))
        except asyncio.QueueFull:
            logger.warning("Too many events wait; dropped %s: %s", reason, message)

    async def write_forever(self) -> None:
        """Write events as they come."""
        while True:
            await self._write(await self._waiting.get())

    async def write_waiting(self) -> None:
        """Write the events that wait now, then return."""
        while not self._waiting.empty():
            await self._write(self._waiting.get_nowait())

    async def _write(self, event: Manifest) -> None:
        try:
            await self._kube.create(event)
        except KubeError as error:
            logger.warning("An event was lost: %s", error)
        except Exception:  # One event that cannot be written must not end all others.
            logger.exception("An event was lost")


def _event(regarding: Manifest, event_type: str, reason: str, message: str, now: datetime) -> Manifest:
    metadata = regarding["metadata"]
    involved = {
        field: metadata[field] for field in ("name", "namespace", "uid", "resourceVersion") if metadata.get(field)
    }
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
            "namespace": metadata.get("namespace") or "default",
        },
        "involvedObject": {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"], **involved},
        "type": event_type,
        "reason": reason,
        "message": message[:MAX_MESSAGE],
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
    }
