"""HAProxy's runtime API over the master's unix socket.

The master passes `@1 ...` on to its newest worker and `@!<pid> ...` to any other. Commands are lines, and an
empty line ends each answer (management guide of HAProxy 2.8, sections 9.3 and 9.4).
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from modelyard_gateway.changes import InEffect
from modelyard_gateway.haproxy_config import HANDOVER_BACKEND, LAST_WORKER
from modelyard_gateway.placement import Endpoint, Placement

_ANSWER_S = 10.0
_POLL_S = 0.02
_FORCED_MAINTENANCE = 1
"""Bit of `srv_admin_state`: a command said `maint`, or the configuration said `disabled`."""


class HAProxyError(Exception):
    """HAProxy does not answer, or refuses what it was asked."""


class RuntimeSocket:
    """Asks and changes a running HAProxy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, lines: Sequence[str]) -> str:
        """Give commands in one connection and return all that is answered.

        Raises:
            HAProxyError: nobody listens, or no whole answer came within 10 s.
        """
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(str(self._path))
                try:
                    # HAProxy answers while it still reads: who only writes first may wait for ever.
                    answer, _ = await asyncio.gather(reader.read(), _send(writer, lines))
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise HAProxyError(f"no answer from HAProxy at {self._path.name}: {error!r}") from error
        return answer.decode()

    async def change(self, lines: Sequence[str]) -> None:
        """Give commands to the newest worker. `in_effect` shows what they did: HAProxy answers in prose."""
        await self.ask([f"@1 {line}" for line in lines])

    async def in_effect(self, map_file: Path) -> InEffect:
        """What the newest worker does now."""
        entries = await self.ask([f"@1 show map {map_file}"])
        states = await self.ask(["@1 show servers state"])
        return InEffect(entries=_parse_map(entries), placement=_parse_servers(states))

    async def reload(self) -> None:
        """Replace the worker by one with the configuration on disk; returns when the new one serves.

        Raises:
            HAProxyError: the new configuration does not load; the old worker goes on.
        """
        answer = await self.ask(["reload"])
        if not answer.startswith("Success=1"):
            raise HAProxyError(f"HAProxy did not reload: {answer.partition('--')[2].strip()[-1000:]}")

    async def replaced_workers_stopping(self) -> None:
        """Wait until each worker that a reload has replaced knows it, and so hands new requests over.

        Raises:
            HAProxyError: one has not heard of it within 10 s.
        """
        for _ in range(int(_ANSWER_S / _POLL_S)):
            replaced = await self._replaced_workers()
            infos = [await self.ask([f"@!{pid} show info"]) for pid in replaced]
            # One that has ended since answers with an error of the master, and is not listed the next time.
            if all("Stopping: 1" in info for info in infos):
                return
            await asyncio.sleep(_POLL_S)
        raise HAProxyError("a replaced worker of HAProxy still takes requests")

    async def _replaced_workers(self) -> list[int]:
        answer = await self.ask(["show proc"])
        replaced = answer.partition("# old workers")[2].partition("# programs")[0]
        return [int(line.split()[0]) for line in replaced.splitlines() if line[:1].isdigit()]


async def _send(writer: asyncio.StreamWriter, lines: Sequence[str]) -> None:
    writer.write("".join(f"{line}\n" for line in lines).encode())
    await writer.drain()
    writer.write_eof()


def _parse_map(answer: str) -> dict[str, str]:
    """`<pointer> <key> <value>` lines."""
    entries = {}
    for line in answer.splitlines():
        if line.startswith("0x"):
            _, key, value = line.split(" ", 2)
            if key != LAST_WORKER:
                entries[key] = value
    return entries


def _parse_servers(answer: str) -> Placement:
    placement: dict[str, dict[str, Endpoint | None]] = {}
    for state in _parse_states(answer):
        if state["be_name"] == HANDOVER_BACKEND:
            continue
        free = int(state["srv_admin_state"]) & _FORCED_MAINTENANCE
        endpoint = None if free else Endpoint(address=state["srv_addr"], port=int(state["srv_port"]))
        placement.setdefault(state["be_name"], {})[state["srv_name"]] = endpoint
    return placement


def _parse_states(answer: str) -> list[dict[str, str]]:
    """The table of `show servers state`: a format version, a header line after `#`, rows.

    Raises:
        HAProxyError: it is something else.
    """
    lines = [line for line in answer.splitlines() if line]
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):
        raise HAProxyError(f"HAProxy does not list its servers: {answer.strip()[:200]!r}")
    header = lines[1][2:].split()
    return [dict(zip(header, line.split(), strict=True)) for line in lines[2:]]
