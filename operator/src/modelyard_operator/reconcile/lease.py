"""The Lease of the installation: which operator may write.

A holder may write until some seconds before another may take the Lease, by a clock that goes on while the process is
frozen. Renewing is one conditional write, so that the Lease has one holder at any time. See docs/design/lease.md.
"""

import asyncio
import logging
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from modelyard_operator.kube.client import LEASE, KubeClient, Manifest
from modelyard_operator.kube.errors import Conflict, KubeError

log = logging.getLogger(__name__)

NAME = "modelyard-operator"
DURATION_S = 10
"""A Lease that nobody has renewed for so long may be taken."""
MARGIN_S = 2.0
"""So long before that its holder stops writing: what it sent last has arrived by then."""
RENEW_S = 3.0
RETRY_S = 1.0
ATTEMPT_S = 4.0
"""A renewal that takes longer is given up and tried again."""


class NotHolder(KubeError):
    """This operator does not hold the Lease, or cannot be sure that it does: it may not write."""


class Permit(Protocol):
    """Whether this process may write."""

    def check(self) -> None:
        """Raises NotHolder where this process knows by itself that it may not."""

    async def confirm(self) -> None:
        """As `check`, and the Lease is read: for what cannot be undone. Raises NotHolder and other KubeErrors."""


@dataclass(frozen=True)
class Identity:
    """Who holds a Lease: a process in a pod. Outside of one both its name and its uid are empty."""

    pod: str = ""
    uid: str = ""
    process: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __str__(self) -> str:
        return f"{self.pod}_{self.uid}_{self.process}"

    def is_predecessor(self, holder: str) -> bool:
        """Whether `holder` ran in this very pod: the kubelet starts a container only when the one before has ended."""
        return bool(self.uid) and holder.rpartition("_")[0] == f"{self.pod}_{self.uid}"


@dataclass(frozen=True)
class _Seen:
    """A Lease of somebody else, and since when it stands unchanged by our clock."""

    version: str
    since: float


class Lease:
    """The `Permit` of a process that renews the Lease as long as it runs."""

    def __init__(
        self,
        kube: KubeClient,
        namespace: str,
        identity: Identity,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        """`clock` gives seconds that pass even while the process is frozen; `refused` counts writes that may not be."""
        self._kube, self._namespace, self._identity = kube, namespace, identity
        self._clock, self._now, self._refused = clock, now, refused
        self._valid_until = -math.inf
        self._term: int | None = None
        """The Lease's count of transitions when it became ours; None before."""
        self._seen: _Seen | None = None
        self._acquired = asyncio.Event()
        self._told = ""

    @property
    def held(self) -> bool:
        """Whether this process may write now."""
        return self._clock() < self._valid_until

    def check(self) -> None:
        if self.held:
            return
        self._refused()
        self._tell(logging.WARNING, f"this operator ({self._identity}) may not write: its Lease has not been renewed")
        raise NotHolder(f"Lease {self._namespace}/{NAME} is not held by this operator ({self._identity})")

    async def confirm(self) -> None:
        self.check()
        standing = await self._kube.get(LEASE, NAME, namespace=self._namespace)
        if standing is None or _holder(standing) != str(self._identity):
            self._valid_until = -math.inf
        self.check()

    async def wait(self) -> None:
        """Return when this process may write."""
        while not self.held:
            self._acquired.clear()
            await self._acquired.wait()

    async def hold(self) -> None:
        """Take the Lease and renew it; returns when another operator has had it after this one.

        What this process remembers may then be wrong, so it must end and begin anew.
        """
        while True:
            pause_s = RETRY_S
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    if await self.attempt():
                        return
                pause_s = RENEW_S if self.held else RETRY_S
            except (KubeError, TimeoutError) as error:
                log.warning("the Lease could not be renewed: %s", error or type(error).__name__)
            await asyncio.sleep(pause_s)

    async def attempt(self) -> bool:
        """Take or renew the Lease where that is allowed; whether another operator has had it after this one."""
        begun = self._clock()
        standing = await self._kube.get(LEASE, NAME, namespace=self._namespace)
        try:
            if standing is None:
                self._won(await self._kube.create(self._record(None, self._term or 0)), begun)
                return False
            holder, term = _holder(standing), int(standing["spec"].get("leaseTransitions") or 0)
            mine = holder == str(self._identity)
            if not mine and self._term is not None and (holder or term != self._term):
                self._valid_until = -math.inf
                log.warning("the Lease was lost to %s: this process ends", holder or "an operator that has ended since")
                return True
            if mine or self._may_take(standing):
                wanted = self._record(standing, term if mine else term + 1)
                self._won(await self._kube.apply(wanted), begun)
            else:
                self._tell(logging.INFO, f"waits for the Lease, which {holder} holds")
        except Conflict:
            log.debug("somebody else was faster: the next attempt sees who")
        return False

    async def release(self) -> None:
        """Give the Lease up, so that the successor need not wait. Nothing may be written any more."""
        if not self.held:
            return
        self._valid_until = -math.inf
        try:
            async with asyncio.timeout(ATTEMPT_S):
                standing = await self._kube.get(LEASE, NAME, namespace=self._namespace)
                if standing is not None and _holder(standing) == str(self._identity):
                    released = self._record(standing, self._term or 0)
                    released["spec"]["holderIdentity"] = ""
                    await self._kube.apply(released)
        except (KubeError, TimeoutError) as error:
            log.warning("the Lease could not be released: %s", error or type(error).__name__)

    def _may_take(self, standing: Manifest) -> bool:
        holder = _holder(standing)
        if not holder or self._identity.is_predecessor(holder):
            return True
        version = standing["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, self._clock())
        duration = float(standing["spec"].get("leaseDurationSeconds") or DURATION_S)
        return self._clock() - self._seen.since >= duration

    def _won(self, standing: Manifest, begun: float) -> None:
        """The Lease was written as ours: it lasts from the moment before it was asked for."""
        term = int(standing["spec"]["leaseTransitions"])
        if self._term is None or not self.held:
            log.info("the Lease is held by this operator (%s)", self._identity)
        self._told = ""
        self._term, self._seen = term, None
        self._valid_until = begun + DURATION_S - MARGIN_S
        self._acquired.set()

    def _record(self, standing: Manifest | None, term: int) -> Manifest:
        """The Lease as ours; one that stands is only written if it is as it was read."""
        now = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = standing is not None and _holder(standing) == str(self._identity)
        since = standing["spec"].get("acquireTime") if mine and standing is not None else None
        version = {"resourceVersion": standing["metadata"]["resourceVersion"]} if standing is not None else {}
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": NAME, "namespace": self._namespace, **version},
            "spec": {
                "holderIdentity": str(self._identity),
                "leaseDurationSeconds": DURATION_S,
                "acquireTime": since or now,
                "renewTime": now,
                "leaseTransitions": term,
            },
        }

    def _tell(self, level: int, message: str) -> None:
        """Log something once, until the Lease is ours again or something else is to be said."""
        if message != self._told:
            log.log(level, message)
            self._told = message


def _holder(lease: Manifest) -> str:
    return str(lease["spec"].get("holderIdentity") or "")
