"""`modelyard logs`: one service's lines from all its replicas.

Replicas of several services share worker pods of one group. Each of their lines says whose it is; the rest of a pod's
log is Ray's.
"""

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from modelyard_operator.api.quantity import parse_duration
from modelyard_operator.cli.cluster import Cluster, Connect
from modelyard_operator.cli.console import console
from modelyard_operator.cli.failure import CliFailure, note, run_async
from modelyard_operator.cli.options import Context, Kubeconfig, Namespace, TextOrJson, TextOutput, connector
from modelyard_operator.cli.pod_logs import PodName
from modelyard_operator.cli.services import Service, find_service
from modelyard_operator.desired.names import MANAGED_LABEL, SERVICE_LABEL
from modelyard_operator.desired.revision import Revision, from_manifest
from modelyard_operator.kube.client import CONTROLLER_REVISION, POD, Manifest
from modelyard_operator.kube.errors import Forbidden, KubeError, Unavailable

EXAMPLES = """
Examples:
  modelyard logs smollm2                        the last 100 lines
  modelyard logs smollm2 -n team-a -f           these, and those to come until Ctrl-C
  modelyard logs smollm2 --since 10m --tail -1  everything of the last ten minutes
  modelyard logs smollm2 --revision 1a2b3c4d    of one revision
  modelyard logs smollm2 -f -o json | jq .      the lines as the replicas wrote them
"""

LOOK_FOR_PODS_S = 2.0
CONTAINER = "ray-worker"
_WAITING = 1000
_BOUND_FIELDS = frozenset({"time", "level", "event", "service", "revision"})
_LEVEL_STYLES = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True)
class Selection:
    """Which lines are wanted."""

    service: str
    revision: str | None
    since: str | None
    tail: int
    """How many lines of the past; -1 for all."""


@dataclass(frozen=True)
class ReplicaLine:
    """A line that a replica of the service wrote."""

    pod: str
    text: str
    entry: dict[str, Any]


def logs(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The service.")],
    namespace: Namespace = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is to come, until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=-1, help="How many lines of the past; -1 for all.")] = 100,
    revision: Annotated[str | None, typer.Option(help="Only of this revision.")] = None,
    since: Annotated[str | None, typer.Option(help="Only of this long ago, for example 30s, 10m, 2h.")] = None,
    output: TextOrJson = TextOutput.TEXT,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print what one service's replicas say, from all their pods, in the order of time."""
    start = _start(since)
    wanted = (revision, start, tail)
    run_async(_logs(connector(ctx), name, namespace, wanted, follow=follow, output=output, way=(kubeconfig, context)))


def _start(since: str | None) -> str | None:
    """The moment from which on lines are wanted, in RFC 3339."""
    if since is None:
        return None
    try:
        seconds = parse_duration(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _logs(
    connect: Connect,
    name: str,
    namespace: str | None,
    wanted: tuple[str | None, str | None, int],
    *,
    follow: bool,
    output: TextOutput,
    way: tuple[Path | None, str | None],
) -> None:
    async with connect(*way) as cluster:
        service = await find_service(cluster, name, namespace or cluster.namespace)
        revision, since, tail = wanted
        selection = Selection(f"{service.namespace}/{service.name}", revision, since, tail)
        reader = LogReader(cluster, service, selection)
        pods = await reader.pods()
        for line in await reader.past(pods):
            _print(line, output)
        if not pods:
            ready = service.ready
            note(f"No worker pod runs for {selection.service} now ({ready.reason if ready else 'not looked at yet'}).")
        if follow:
            async for line in reader.coming():
                _print(line, output)


@dataclass
class LogReader:
    """Reads the lines of one service."""

    cluster: Cluster
    service: Service
    selection: Selection
    _seen: dict[PodName, str] = field(default_factory=dict)
    """Per pod when its last line was taken, so that reading on begins after it."""

    async def pods(self) -> list[PodName]:
        """The worker pods of the service's revisions."""
        groups = {(r.cluster_key[0], r.ray_cluster, r.group["groupName"]) for r in await self._revisions()}
        found: list[PodName] = []
        for namespace, ray_cluster, group in sorted(groups):
            labels = f"{MANAGED_LABEL}=true,ray.io/cluster={ray_cluster},ray.io/group={group}"
            for pod in await self.cluster.kube.list(POD, namespace=namespace, labels=labels):
                found.append(PodName(namespace, pod["metadata"]["name"], CONTAINER))
        return found

    async def _revisions(self) -> list[Revision]:
        metadata = self.service.manifest["metadata"]
        labels = f"{MANAGED_LABEL}=true,{SERVICE_LABEL}={metadata['name']}"
        manifests = await self.cluster.kube.list(CONTROLLER_REVISION, namespace=metadata["namespace"], labels=labels)
        revisions = list(_readable(manifests))
        only = self.selection.revision
        if only is None:
            return revisions
        chosen = [each for each in revisions if each.name == only]
        if not chosen:
            known = ", ".join(sorted(each.name for each in revisions)) or "none"
            raise CliFailure(f"{self.selection.service} has no revision {only!r}.", f"It has: {known}.")
        return chosen

    async def past(self, pods: list[PodName]) -> list[ReplicaLine]:
        """The last lines of all pods, by the time that the replicas wrote into them."""
        limit = None if self.selection.tail < 0 else self.selection.tail

        async def read(pod: PodName) -> deque[ReplicaLine]:
            kept: deque[ReplicaLine] = deque(maxlen=limit)
            async for line in self._lines(pod, follow=False):
                kept.append(line)
            return kept

        found = [line for lines in await asyncio.gather(*map(read, pods)) for line in lines]
        found.sort(key=lambda line: str(line.entry.get("time", "")))
        return found if limit is None else found[len(found) - min(limit, len(found)) :]

    async def coming(self) -> AsyncIterator[ReplicaLine]:
        """Lines as they are written, of pods that come later too, for as long as the caller asks."""
        arriving: asyncio.Queue[ReplicaLine | KubeError] = asyncio.Queue(_WAITING)
        readers: dict[PodName, asyncio.Task[None]] = {}
        finder = asyncio.create_task(self._keep_reading(arriving, readers))
        try:
            while True:
                line = await arriving.get()
                if isinstance(line, KubeError):
                    raise line
                yield line
        finally:
            tasks = [finder, *readers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_reading(
        self, arriving: asyncio.Queue[ReplicaLine | KubeError], readers: dict[PodName, asyncio.Task[None]]
    ) -> None:
        """Read every pod that there is; a connection that ended is made again while its pod is there."""
        try:
            while True:
                for pod in await self.pods():
                    if pod not in readers or readers[pod].done():
                        readers[pod] = asyncio.create_task(self._read_on(pod, arriving))
                await asyncio.sleep(LOOK_FOR_PODS_S)
        except KubeError as error:
            await arriving.put(error)

    async def _read_on(self, pod: PodName, arriving: asyncio.Queue[ReplicaLine | KubeError]) -> None:
        try:
            async for line in self._lines(pod, follow=True):
                await arriving.put(line)
        except Unavailable:
            return  # The next look at the pods tells whether it or the API server is gone.
        except Forbidden as error:
            await arriving.put(error)

    async def _lines(self, pod: PodName, *, follow: bool) -> AsyncIterator[ReplicaLine]:
        last = self._seen.get(pod, "")
        async for line in self.cluster.pod_logs.lines(pod, since=last or self.selection.since, follow=follow):
            if line.stamp <= last:
                continue
            self._seen[pod] = line.stamp
            entry = _entry(line.text)
            if entry.get("service") == self.selection.service and self._is_wanted(entry):
                yield ReplicaLine(pod.name, line.text, entry)

    def _is_wanted(self, entry: dict[str, Any]) -> bool:
        return self.selection.revision in (None, entry.get("revision"))


def _readable(manifests: Iterable[Manifest]) -> Iterator[Revision]:
    """The revisions that this release understands."""
    for manifest in manifests:
        try:
            yield from_manifest(manifest)
        except ValueError as error:
            note(f"Left out: revision {manifest['metadata']['name']} of another release than this CLI ({error}).")


def _entry(text: str) -> dict[str, Any]:
    """The JSON object in a line; empty for lines of Ray's own."""
    if not text.startswith("{"):
        return {}
    try:
        entry = json.loads(text)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _print(line: ReplicaLine, output: TextOutput) -> None:
    if output is TextOutput.JSON:
        sys.stdout.write(line.text + "\n")
        sys.stdout.flush()
        return
    entry = line.entry
    level = str(entry.get("level", "info"))
    details = " ".join(f"{key}={_value(value)}" for key, value in entry.items() if key not in _BOUND_FIELDS)
    text = Text(str(entry.get("time", "")), style="dim")
    text.append(f" {line.pod[-5:]} {entry.get('revision', '-')} ", "dim")
    text.append(f"{level:<7} {entry.get('event', '')}", _LEVEL_STYLES.get(level, "none"))
    console().print(text.append(f" {details}", "none"), soft_wrap=True)


def _value(value: Any) -> str:
    """A field as people read it: texts without quotes unless they have blanks."""
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) and (" " in text or not text) else text
