"""The peer: KubeRay's own operator, given the RayClusters that ours came to, with as many workers.

What is compared is a control plane of the same kind at the same number of Ray pods. KubeRay's operator makes heads,
workers, Services and roles of each RayCluster; ours makes the RayClusters, and the revisions, Serve configs, proofs and
routes of the services on them. Each has an API server to itself, and the pods of both are up as soon as they are made.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import yaml
from bench.operator.kube_api import KubeApi, Manifest, all_of, connected
from bench.operator.measured import Measured
from bench.operator.ray import FIRST_ADDRESS, running
from bench.operator.scene import CLUSTERS_IN, until

from modelyard_hack.addons import kuberay_manifests
from modelyard_hack.control_plane import loopback_apiserver
from modelyard_hack.tools import tool_path

RAY_CLUSTERS = f"/apis/ray.io/v1/namespaces/{CLUSTERS_IN}/rayclusters"
PODS = f"/api/v1/namespaces/{CLUSTERS_IN}/pods"
WITHIN_S = 3600
PORTS = ("--metrics-addr=127.0.0.1:18080", "--health-probe-bind-address=127.0.0.1:18082")


@dataclass(frozen=True)
class Peer:
    """What KubeRay's operator needed."""

    pods: int
    seconds: float
    """Until every RayCluster was ready."""
    cpu_s: float
    peak_rss_mb: float
    rest_cpu_pct: float


async def ray_clusters(api: KubeApi) -> list[Manifest]:
    """Those that stand, as somebody would apply them anew, with the workers that they have."""
    standing, _ = await api.list(RAY_CLUSTERS)
    pods, _ = await api.list(PODS)
    labels = [pod["metadata"]["labels"] for pod in pods]
    workers = Counter((each.get("ray.io/cluster"), each.get("ray.io/group")) for each in labels)
    return [_anew(manifest, workers) for manifest in standing]


def _anew(manifest: Manifest, workers: Counter[tuple[str | None, str | None]]) -> Manifest:
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    groups = [
        {**group, "replicas": workers[name, group["groupName"]], "minReplicas": 0}
        for group in spec.get("workerGroupSpecs") or []
    ]
    metadata = {"name": name, "labels": manifest["metadata"].get("labels") or {}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": metadata,
        "spec": {**spec, "workerGroupSpecs": groups},
    }


async def peer(manifests: Iterable[Manifest], rest_s: float) -> Peer:
    """Let KubeRay's operator bring up `manifests`, created at once."""
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-peer-") as name:
        folder = Path(name)
        with loopback_apiserver(folder) as kubeconfig:
            async with connected(kubeconfig) as api:
                await _prepare(api)
                flags = ("--enable-leader-election=false", f"--kubeconfig={kubeconfig}", *PORTS)
                operator = Measured([str(tool_path("kuberay-operator")), *flags], folder / "kuberay.log", {})
                try:
                    return await _brought_up(api, operator, list(manifests), rest_s)
                finally:
                    operator.stop()


async def _prepare(api: KubeApi) -> None:
    """KubeRay's CRDs and the namespace."""
    documents = yaml.safe_load_all(kuberay_manifests())
    crds = [each for each in documents if each["kind"] == "CustomResourceDefinition"]
    for crd in crds:  # Each is large: all at once would time out where the machine is busy.
        await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CLUSTERS_IN}}
    await api.create("/api/v1/namespaces", namespace)
    for crd in crds:
        served = f"/apis/{crd['spec']['group']}/v1/{crd['spec']['names']['plural']}"
        await until(partial(_is_served, api, served), f"{served} is served", 120)


async def _is_served(api: KubeApi, path: str) -> bool:
    try:
        await api.list(path)
    except RuntimeError:
        return False
    return True


async def _brought_up(api: KubeApi, operator: Measured, manifests: list[Manifest], rest_s: float) -> Peer:
    following = asyncio.create_task(_bring_up_pods(api))
    try:
        await asyncio.sleep(5)
        operator.check()
        begun, cpu = time.time(), operator.cpu_s()
        await all_of(api.create(RAY_CLUSTERS, manifest) for manifest in manifests)

        async def ready() -> bool:
            operator.check()
            if following.done():
                following.result()
            standing, _ = await api.list(RAY_CLUSTERS)
            return all((each.get("status") or {}).get("state") == "ready" for each in standing)

        await until(ready, f"{len(manifests)} RayClusters are ready", WITHIN_S)
        seconds, cpu = time.time() - begun, operator.cpu_s() - cpu
        pods, _ = await api.list(PODS)
        await asyncio.sleep(10)
        before = operator.cpu_s()
        await asyncio.sleep(rest_s)
        return Peer(
            pods=len(pods),
            seconds=seconds,
            cpu_s=cpu,
            peak_rss_mb=operator.rss_mb(peak=True),
            rest_cpu_pct=100 * (operator.cpu_s() - before) / rest_s,
        )
    finally:
        following.cancel()


async def _bring_up_pods(api: KubeApi) -> None:
    """As the kubelet does, at once."""
    seen: set[str] = set()
    async with asyncio.TaskGroup() as group:
        async for event, pod in api.follow(PODS):
            name = pod["metadata"]["name"]
            if event == "ADDED" and name not in seen:
                seen.add(name)
                status = running(str(IPv4Address(int(FIRST_ADDRESS) + len(seen))))
                group.create_task(api.merge(f"{PODS}/{name}/status", {"status": status}))
