"""The agent: brings the newest good route document into effect in HAProxy, and says which one is.

Level-triggered: each turn asks HAProxy what it does, and does what is missing. So it makes no difference whether
the document changed, HAProxy died, or a hand changed it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from modelyard_gateway.changes import Commands, Reload, plan, plan_routes
from modelyard_gateway.haproxy_process import ConfigurationRefused, HAProxyProcess
from modelyard_gateway.placement import place
from modelyard_gateway.routes import RouteDocument
from modelyard_gateway.runtime_socket import HAProxyError
from modelyard_gateway.source import DocumentSource, KeptDocument

logger = logging.getLogger(__name__)

_TURN_S = 5.0
"""How often HAProxy is asked when nothing calls."""
_RETRY_S = 0.5
_STUCK_S = 60.0
"""A turn takes milliseconds, or 15 s where HAProxy does not start."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """What this gateway does, as the operator reads it."""

    version: str | None
    """Version of the document in effect; None while none is."""
    applied_at: str | None
    """When it took effect, RFC 3339."""
    error: str | None
    """Why the newest document is not in effect or not kept, or what is wrong with HAProxy; None when all is well."""
    reloads: int
    """Reloads of HAProxy since the agent started."""
    starts: int
    """Starts of HAProxy; more than one means that it died."""


class Agent:
    """One gateway's loop."""

    def __init__(
        self,
        *,
        source: DocumentSource,
        kept: KeptDocument,
        haproxy: HAProxyProcess,
        clock: Callable[[], datetime],
    ) -> None:
        self._source = source
        self._kept = kept
        self._haproxy = haproxy
        self._clock = clock
        self._wanted: RouteDocument | None = None
        self._applied: RouteDocument | None = None
        self._applied_at: datetime | None = None
        self._on_disk: RouteDocument | None = None
        self._unkept: str | None = None
        self._refusal: str | None = None
        self._failure: str | None = None
        self._reloads = 0
        self._starts = 0
        self._leaving = False
        self._turned_at = time.monotonic()

    @property
    def status(self) -> Status:
        """The state of now."""
        in_effect = self._applied if self._haproxy.running and self._failure is None else None
        return Status(
            version=in_effect.version if in_effect else None,
            applied_at=self._applied_at.isoformat() if in_effect and self._applied_at else None,
            error=self._failure or self._refusal or self._unkept,
            reloads=self._reloads,
            starts=self._starts,
        )

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return not self._leaving and self._applied is not None and self._haproxy.running

    @property
    def alive(self) -> bool:
        """Whether the loop turns."""
        return time.monotonic() - self._turned_at < _STUCK_S

    def leave(self) -> None:
        """Be not ready any more, while requests are still answered."""
        self._leaving = True

    async def run(self) -> None:
        """Follow the source and keep its newest good document in effect, until cancelled."""
        # A restart serves at once what it served before, whether or not the source answers.
        self._wanted = self._on_disk = await asyncio.to_thread(self._kept.read)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._keep())

    async def _follow(self) -> None:
        async for text in self._source.documents():
            try:
                document = RouteDocument.from_json(text)
            except ValueError as error:
                self._refuse(f"the newest route document is refused: {error}")
                continue
            self._refusal = None
            if document != self._wanted:
                self._wanted = document
                self._haproxy.changed.set()

    async def _keep(self) -> None:
        while True:
            self._haproxy.changed.clear()
            pause = _TURN_S
            try:
                await self._turn()
                self._failure = None
            except ConfigurationRefused as error:
                self._refuse(str(error))
                self._wanted = self._applied
            except (HAProxyError, OSError) as error:  # a full disk passes, and HAProxy serves on
                if self._failure is None:
                    logger.error("%s", error)  # noqa: TRY400 - a trace of our own frames says nothing about HAProxy
                self._failure = str(error)
                pause = _RETRY_S
            self._turned_at = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._haproxy.changed.wait(), pause)

    async def _turn(self) -> None:
        wanted = self._wanted
        if wanted is None or (self._haproxy.finishing and not self._haproxy.running):
            return
        if not self._haproxy.running:
            await self._haproxy.write(wanted, place(wanted.backends, {}))
            await self._haproxy.start()
            self._starts += 1
        if not await self._bring_about(wanted) and not await self._bring_about(wanted):
            raise HAProxyError("HAProxy does not take the route document over its runtime API")
        await self._haproxy.runtime.replaced_workers_stopping()
        if wanted != self._applied:
            self._applied = wanted
            self._applied_at = self._clock()
            logger.info("version %s is in effect: %d routes", wanted.version, len(wanted.routes))
        if wanted != self._on_disk:
            await self._keep_on_disk(wanted)

    async def _keep_on_disk(self, document: RouteDocument) -> None:
        """Keep the document for a restart; where that fails, it is in effect all the same and each turn tries again."""
        try:
            await asyncio.to_thread(self._kept.write, document)
        except OSError as error:
            if self._unkept is None:
                logger.error("the route document cannot be kept: %s", error)  # noqa: TRY400 - the disk's fault
            self._unkept = f"the route document is in effect, but cannot be kept for a restart: {error}"
        else:
            self._on_disk, self._unkept = document, None

    async def _bring_about(self, wanted: RouteDocument) -> bool:
        """Whether the document was in effect already; else do what is missing."""
        map_file = self._haproxy.ground.map_file
        in_effect = await self._haproxy.runtime.in_effect(map_file)
        step = (plan_routes if self._haproxy.finishing else plan)(in_effect, wanted, map_file)
        match step:
            case Reload(placement=placement):
                await self._haproxy.write(wanted, placement)
                await self._haproxy.runtime.reload()
                self._reloads += 1
            case Commands(lines=lines) if lines:
                await self._haproxy.runtime.change(lines)
            case _:
                return True
        return False

    def _refuse(self, why: str) -> None:
        if why != self._refusal:
            logger.error("%s", why)
        self._refusal = why
