"""The HAProxy of this gateway as a child process.

A master keeps one worker serving, and those that reloads replaced until they have finished their requests.
"""

import asyncio
import logging
import os
import signal
from pathlib import Path

from modelyard_gateway.haproxy_config import LAST_WORKER, Ground, render, render_map
from modelyard_gateway.placement import Placement
from modelyard_gateway.routes import RouteDocument
from modelyard_gateway.runtime_socket import HAProxyError, RuntimeSocket

logger = logging.getLogger(__name__)

_START_S = 15.0
_STOP_S = 10.0


class ConfigurationRefused(HAProxyError):
    """HAProxy does not load this configuration."""


class HAProxyProcess:
    """Starts, reloads and stops HAProxy."""

    def __init__(self, *, binary: Path, ground: Ground) -> None:
        self.changed = asyncio.Event()
        """Set when the process has ended; whoever wants to wake who waits for that may set it too."""
        self.finishing = False
        """Whether it was told to finish: it then takes no change of servers any more, and is not to be replaced."""
        self.ground = ground
        self.runtime = RuntimeSocket(ground.runtime_socket)
        self._binary = binary
        self._process: asyncio.subprocess.Process | None = None
        self._waiter: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the master is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Of the master.

        Raises:
            HAProxyError: it is not running.
        """
        if self._process is None or not self.running:
            raise HAProxyError("HAProxy is not running")
        return self._process.pid

    async def write(self, document: RouteDocument, placement: Placement) -> None:
        """Put the configuration in place, once HAProxy itself has found it good.

        Raises:
            ConfigurationRefused: it has not, and the configuration in place is the one of before.
        """
        candidate = self.ground.config_file.with_suffix(".new")
        candidate.write_text(render(placement, self.ground))
        self.ground.map_file.write_text(render_map(document, placement))
        check = await asyncio.create_subprocess_exec(
            self._binary,
            "-c",
            "-f",
            candidate,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await check.communicate()
        if check.returncode != 0:
            raise ConfigurationRefused(
                f"HAProxy refuses the configuration: {output.decode(errors='replace').strip()[-1000:]}"
            )
        candidate.replace(self.ground.config_file)

    async def start(self) -> None:
        """Start with the configuration in place and return when it serves.

        Raises:
            HAProxyError: it ended, or was not there within 15 s.
        """
        for socket in (self.ground.runtime_socket, self.ground.metrics_socket, self.ground.handover_socket):
            socket.unlink(missing_ok=True)
        # In a session of its own: Ctrl-C in a terminal is for the agent, which then ends HAProxy in order.
        self._process = await asyncio.create_subprocess_exec(
            *(self._binary, "-W", "-S", f"{self.ground.runtime_socket},mode,600", "-f", self.ground.config_file),
            start_new_session=True,
        )
        self._waiter = asyncio.create_task(self._wait(self._process))
        try:
            async with asyncio.timeout(_START_S):
                while not await self._serves():
                    if not self.running:
                        raise HAProxyError(
                            f"HAProxy ended with {self._process.returncode}; its reason is in the log above"
                        )
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.stop()
            raise HAProxyError(f"HAProxy did not serve within {_START_S:.0f} s") from None
        logger.info("HAProxy serves on port %d, process %d", self.ground.listen_port, self._process.pid)

    async def finish(self) -> None:
        """Take no new connection, and return when the requests under way are done and kept connections closed.

        Raises:
            HAProxyError: HAProxy does not answer.
        """
        if self._process is None or not self.running:
            return
        self.finishing = True
        await self.runtime.change([f"add map {self.ground.map_file} {LAST_WORKER} yes"])
        self._signal(signal.SIGUSR1)
        await self._process.wait()

    async def stop(self) -> None:
        """End at once, cutting what is under way."""
        self._signal(signal.SIGTERM)
        if self._process is None or self._waiter is None:
            return
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_S)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()
        await self._waiter

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, number)

    async def _serves(self) -> bool:
        try:
            await self.runtime.in_effect(self.ground.map_file)
        except HAProxyError:
            return False
        return True

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        logger.info("HAProxy process %d ended with %d", process.pid, code)
        self.changed.set()
