"""What is measured of the operator, one phase after another."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from bench.operator.kube_api import Manifest, all_of
from bench.operator.scene import OURS, Scene, told, until

CONVERGE_WITHIN_S = 3600


@dataclass(frozen=True)
class Converged:
    """All services created at once, until the last one is Ready."""

    seconds: float
    requests: int
    """To the API server."""
    puts: int
    proofs: int
    cpu_s: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Changed:
    """One service after another changed, all others at rest."""

    milliseconds: tuple[float, ...]
    requests: float
    """To the API server, for each change."""

    def percentile(self, share: float) -> float:
        """By rank, of the slowest with few samples."""
        ordered = sorted(self.milliseconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True)
class Rested:
    """Nothing happens."""

    seconds: float
    written: tuple[str, ...]
    """To the API server and to Ray."""
    asked: Mapping[str, int]
    """All requests in the API server's audit log, by verb and resource; Leases are not in there."""
    cpu_pct: float
    """Of one core."""
    rss_mb: float


@dataclass(frozen=True)
class Restarted:
    """The operator stopped and started again, nothing else changed."""

    seconds: float
    """Until every loop has looked."""
    cpu_s: float
    requests: int
    writes: int
    peak_rss_mb: float


async def converge(scene: Scene) -> Converged:
    """Create all services; every one must become Ready in truth, not only by the operator's metrics."""
    size, begun, cpu = scene.size, time.time(), scene.operator.cpu_s()
    before = await told()
    indices = range(size.services)
    await all_of(_create(scene, size.manifest(index)) for index in indices)

    async def served() -> bool:
        return await scene.metric('modelyard_model_services{reason="Serving"}') == size.services

    await until(served, f"{size.services} services are Ready", CONVERGE_WITHIN_S)
    ended = time.time()
    cpu = scene.operator.cpu_s() - cpu
    services, _ = await scene.api.list(f"{OURS}/modelservices")
    unready = [each["metadata"]["name"] for each in services if not is_ready(each)]
    if unready or len(services) != size.services:
        raise RuntimeError(f"{len(unready)} of {len(services)} services are not Ready: {unready[:5]}")
    after = await told()
    requests = scene.audit.since(begun)
    status = [each.at for each in requests if each.resource == "modelservices/status" and each.at <= ended]
    return Converged(
        seconds=max(status) - begun,
        requests=len(requests),
        puts=len(after["puts"]) - len(before["puts"]),
        proofs=after["counts"]["proofs"] - before["counts"]["proofs"],
        cpu_s=cpu,
        peak_rss_mb=scene.operator.rss_mb(peak=True),
    )


async def _create(scene: Scene, manifest: Manifest) -> None:
    await scene.api.create(f"{OURS}/namespaces/{manifest['metadata']['namespace']}/modelservices", manifest)


def is_ready(service: Manifest) -> bool:
    """As `kubectl wait --for=condition=Ready` with the generation compared."""
    conditions = (service.get("status") or {}).get("conditions") or []
    generation = service["metadata"]["generation"]
    return any(
        c["type"] == "Ready" and c["status"] == "True" and c["observedGeneration"] == generation for c in conditions
    )


async def change_settings(scene: Scene, count: int) -> Changed:
    """Scaling changed (a Serve config, no new pod): until the operator's last write."""

    async def change(number: int) -> float:
        begun = await _edit(scene, number, {"autoscaling": {"targetOngoingRequests": 9}})

        async def written() -> bool:
            return any(at >= begun for at in await scene.puts())

        await until(written, "the Serve config is written", 300)
        return await scene.quiet(begun) - begun

    return await _changed(scene, count, change)


async def change_model(scene: Scene, count: int) -> Changed:
    """Another model (a new revision, a new worker): until it is active, the fake Ray's 0.2 s included."""

    async def change(number: int) -> float:
        path = _path(scene, number)
        old = (await scene.api.request("GET", path))["status"]["activeRevision"]
        begun = await _edit(scene, number, {"model": {"source": {"uri": f"pvc://models/other-{time.time_ns()}"}}})
        switched = 0.0

        async def active() -> bool:
            nonlocal switched
            service = await scene.api.request("GET", path)
            switched = time.time()
            return bool(service["status"].get("activeRevision") != old and is_ready(service))

        await until(active, "the new revision is active", 300)
        await scene.quiet(begun, for_s=8)
        return switched - begun

    return await _changed(scene, count, change)


async def _changed(scene: Scene, count: int, change: Callable[[int], Awaitable[float]]) -> Changed:
    begun, seconds = time.time(), []
    # Far apart, so that they are of different clusters.
    for number in range(count):
        seconds.append(await change(number * scene.size.services // count))
    return Changed(tuple(1000 * each for each in seconds), len(scene.audit.since(begun)) / count)


async def _edit(scene: Scene, number: int, spec: Manifest) -> float:
    begun = time.time()
    await scene.api.merge(_path(scene, number), {"spec": spec})
    return begun


def _path(scene: Scene, number: int) -> str:
    namespace, name = scene.size.service(number)
    return f"{OURS}/namespaces/{namespace}/modelservices/{name}"


async def rest(scene: Scene, seconds: float) -> Rested:
    """Do nothing, once the loops of AcceleratorPools, which look every minute, have told the last change."""
    await scene.quiet(time.time() - 1, for_s=62, within_s=900)
    begun, cpu = time.time(), scene.operator.cpu_s()
    await asyncio.sleep(seconds)
    requests = scene.audit.since(begun)
    written = [f"{each.verb} {each.resource} {each.namespace}/{each.name}" for each in requests if each.is_write]
    return Rested(
        seconds=seconds,
        written=(*written, *("PUT" for at in await scene.puts() if at >= begun)),
        # A plain dict: `asdict` makes a Counter anew by counting its items.
        asked=dict(Counter(f"{each.verb} {each.resource}" for each in requests)),
        cpu_pct=100 * (scene.operator.cpu_s() - cpu) / seconds,
        rss_mb=scene.operator.rss_mb(),
    )


async def restart(scene: Scene) -> Restarted:
    """Stop it and start it again."""
    scene.operator.stop()
    begun = time.time()
    scene.operator = scene.start()

    async def looked() -> bool:
        line = 'modelyard_reconcile_seconds_count{kind="ModelService",outcome="ok"}'
        return await scene.metric(line) >= scene.size.services

    await until(looked, "every loop has looked", 1800)
    seconds = time.time() - begun
    await asyncio.sleep(10)
    requests = scene.audit.since(begun)
    return Restarted(
        seconds=seconds,
        cpu_s=scene.operator.cpu_s(),
        requests=len(requests),
        writes=sum(each.is_write for each in requests) + sum(at >= begun for at in await scene.puts()),
        peak_rss_mb=scene.operator.rss_mb(peak=True),
    )
