"""One run: an API server, the stand-ins, and the operator as its real process with the chart's rights."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from bench.operator.gateways import LABELS, NAMESPACE
from bench.operator.kube_api import KubeApi, Manifest, all_of, connected
from bench.operator.measured import Audit, Measured
from bench.operator.standins import CONTROL_PORT
from tests.charts.chart import environment, rendered
from tests.kubectl import Kubectl

from modelyard_hack.addons import kuberay_manifests
from modelyard_hack.control_plane import loopback_apiserver
from modelyard_hack.layout import REPOSITORY, StateFolder
from modelyard_hack.step import wait_until

METRICS_PORT, PROBE_PORT = 9090, 8080
CLUSTERS_IN = "models"
TEAMS = 10
PODS_ON_A_NODE = 50
OURS = "/apis/modelyard.dev/v1alpha1"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:modelyard-operator"
QUIET_S = 1.5


@dataclass(frozen=True)
class Size:
    """How much there is."""

    services: int
    clusters: int

    def service(self, index: int) -> tuple[str, str]:
        """Namespace and name."""
        return f"team-{index % TEAMS}", f"service-{index:05}"

    def manifest(self, index: int) -> Manifest:
        namespace, name = self.service(index)
        cluster = {"name": f"cluster-{index % self.clusters:03}", "namespace": CLUSTERS_IN}
        return {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": "ModelService",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "model": {"source": {"uri": "pvc://models/first"}, "task": "text-generation"},
                "servingCluster": cluster,
                "autoscaling": {"maxReplicas": 2},
            },
        }


@dataclass
class Scene:
    """What a measurement works on."""

    size: Size
    api: KubeApi
    audit: Audit
    operator: Measured
    start: Callable[[], Measured]

    async def metric(self, line: str) -> float:
        """The value of a line of the operator's metrics; 0 where there is none."""
        self.operator.check()
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{METRICS_PORT}/metrics") as answer,
            ):
                text = await answer.text()
        except aiohttp.ClientError:
            return 0.0
        found = [each.rpartition(" ")[2] for each in text.splitlines() if each.startswith(line + " ")]
        return float(found[0]) if found else 0.0

    async def puts(self) -> list[float]:
        """When each Serve config was written."""
        return list((await told())["puts"])

    async def last_write(self, since: float) -> float:
        """When the operator last wrote to Kubernetes or Ray; `since` where it has not."""
        writes = [request.at for request in self.audit.since(since) if request.is_write]
        return max([since, *writes, *(at for at in await self.puts() if at >= since)])

    async def quiet(self, since: float, *, for_s: float = QUIET_S, within_s: float = 300) -> float:
        """Wait until nothing was written for a while; when the last write was."""
        deadline = time.time() + within_s
        while time.time() < deadline:
            await asyncio.sleep(0.1)
            last = await self.last_write(since)
            if time.time() - last >= for_s:
                return last
        raise RuntimeError(f"the operator still writes after {within_s:g} s: {self.audit.requests[-3:]}")


async def told() -> dict[str, Any]:
    """What the stand-ins count."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{CONTROL_PORT}/told") as answer:
        counted: dict[str, Any] = await answer.json()
    return counted


async def until(holds: Callable[[], Awaitable[bool]], what: str, within_s: float) -> None:
    """Wait; RuntimeError where it takes longer."""
    deadline = time.time() + within_s
    while not await holds():
        if time.time() > deadline:
            raise RuntimeError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(0.2)


@asynccontextmanager
async def scene(size: Size, folder: Path) -> AsyncIterator[Scene]:
    """Everything up and at rest, with ServingClusters and without a service."""
    with loopback_apiserver(folder) as kubeconfig:
        chart = rendered({})
        account = _prepare(Kubectl(kubeconfig), folder, chart)
        variables = environment(chart, "modelyard-operator")
        standins = Measured(
            [sys.executable, "-m", "bench.operator.standins", str(kubeconfig)], folder / "standins.log", {}
        )
        operator: Measured | None = None
        try:
            async with connected(kubeconfig) as api:
                await _objects(api, size)
                made = Scene(
                    size=size,
                    api=api,
                    audit=Audit(StateFolder(folder).audit_log, OPERATOR),
                    operator=(operator := _operator(account, folder, variables)),
                    start=lambda: _operator(account, folder, variables),
                )

                async def up() -> bool:
                    standins.check()
                    return await made.metric('modelyard_loops{kind="ServingCluster"}') == size.clusters

                await until(up, "the operator sees the ServingClusters", 300)
                await made.quiet(time.time() - 5, for_s=4, within_s=600)
                yield made
                operator = made.operator
        finally:
            if operator is not None:
                operator.stop()
            standins.stop()


def _prepare(kubectl: Kubectl, folder: Path, chart: list[Manifest]) -> Path:
    """CRDs, namespaces and the operator's account; gives its kubeconfig."""
    kuberay = [each for each in yaml.safe_load_all(kuberay_manifests()) if each["kind"] == "CustomResourceDefinition"]
    kubectl.must("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
    kubectl.must("apply", "--server-side", "-f", "-", manifest=kuberay)
    established = ("wait", "--for=condition=Established", "--timeout=5s", "crd", "--all")
    wait_until(lambda: kubectl(*established).code == 0, what="the CRDs", timeout=60)
    for namespace in (NAMESPACE, CLUSTERS_IN, *(f"team-{number}" for number in range(TEAMS))):
        kubectl.must("create", "namespace", namespace)
    rights = [each for each in chart if "Role" in each["kind"] or each["kind"] == "ServiceAccount"]
    kubectl.must("apply", "-f", "-", manifest=rights)
    token = kubectl.must("create", "token", "modelyard-operator", "-n", NAMESPACE, "--duration=10h").out.strip()
    config = json.loads(kubectl.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    account = folder / "operator.kubeconfig"
    account.touch(mode=0o600)
    account.write_text(json.dumps(config))
    return account


def _operator(kubeconfig: Path, folder: Path, variables: dict[str, str]) -> Measured:
    """As the chart starts it."""
    env = variables | {
        "KUBECONFIG": str(kubeconfig),
        "MODELYARD_GATEWAY_LABELS": ",".join(f"{name}={value}" for name, value in LABELS.items()),
        "MODELYARD_PROBE_PORT": str(PROBE_PORT),
        "MODELYARD_METRICS_PORT": str(METRICS_PORT),
    }
    return Measured([sys.executable, "-P", "-m", "modelyard_operator"], folder / "operator.log", env)


async def _objects(api: KubeApi, size: Size) -> None:
    shape = {"name": "small", "cpu": "1", "memory": "2Gi"}
    pool = {"metadata": {"name": "cpu"}, "spec": {"device": "cpu", "shapes": [shape], "maxWorkers": 1000}}
    kind = {"apiVersion": "modelyard.dev/v1alpha1"}
    await api.create(f"{OURS}/acceleratorpools", {**kind, "kind": "AcceleratorPool", **pool})
    await all_of(_node(api, number) for number in range(1 + size.services // PODS_ON_A_NODE))
    path = f"{OURS}/namespaces/{CLUSTERS_IN}/servingclusters"
    spec = {
        "runtime": {"volumes": [{"claim": "models"}]},
        "allowedNamespaces": {"from": "All"},
        "highAvailability": False,
    }
    clusters = [
        {**kind, "kind": "ServingCluster", "metadata": {"name": f"cluster-{number:03}"}, "spec": spec}
        for number in range(size.clusters)
    ]
    await all_of(api.create(path, cluster) for cluster in clusters)


async def _node(api: KubeApi, number: int) -> None:
    """A node that is Ready and has room, without a kubelet."""
    name = f"node-{number:03}"
    await api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    # The API server taints each new node as not ready, and nobody is here to take that back.
    await api.merge(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})
    room = {"cpu": "256", "memory": "1Ti", "pods": "250"}
    ready = {"type": "Ready", "status": "True", "reason": "Up", "message": ""}
    await api.merge(
        f"/api/v1/nodes/{name}/status", {"status": {"allocatable": room, "capacity": room, "conditions": [ready]}}
    )
