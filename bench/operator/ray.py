"""Ray behind a fake: KubeRay, the autoscaler, the kubelet and Ray Serve's REST API, over real HTTP on loopback.

Each RayCluster gets a head at an address of its own; each replica is a worker pod with an address of its own. All of
127.0.0.0/8 is this process, in the network namespace of the bench.
"""

import asyncio
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from aiohttp import web
from bench.operator.kube_api import KubeApi, Manifest

from modelyard_serving.contract import DEPLOYMENT, PROVE_PATH, Proof, StartLedger

TOKEN = "YmVuY2g="  # noqa: S105 - of nothing but this fake
HEAD_S, REPLICA_S, STOP_S = 0.1, 0.1, 0.1
"""Seconds until the head answers, from a worker pod to a RUNNING replica, and to stop an application."""
FIRST_ADDRESS = IPv4Address("127.16.0.0")


@dataclass
class Application:
    """A Serve application and its workers."""

    config: dict[str, Any]
    status: str = "DEPLOYING"
    workers: dict[str, str] = field(default_factory=dict)
    """Addresses by pod."""
    task: asyncio.Task[None] | None = None

    @property
    def target(self) -> int:
        deployment = self.config["deployments"][0]
        return int(deployment.get("num_replicas") or deployment["autoscaling_config"]["initial_replicas"])

    def details(self, name: str) -> dict[str, Any]:
        """About as much as Ray 2.60 tells (ray/serve/schema.py, ApplicationDetails)."""
        replicas = [
            {
                "node_id": "4b3d5c" + "0" * 50,
                "node_ip": address,
                "node_instance_id": pod,
                "actor_id": "f" * 32,
                "worker_id": "e" * 56,
                "log_file_path": f"/serve/replica_{name}_{pod}.log",
                "replica_id": pod,
                "state": "RUNNING",
                "pid": 1234,
                "start_time_s": 1763000000.0,
            }
            for pod, address in self.workers.items()
            if self.status == "RUNNING"
        ]
        deployment = {
            "name": DEPLOYMENT,
            "status": "HEALTHY" if self.status == "RUNNING" else "UPDATING",
            "status_trigger": "CONFIG_UPDATE_COMPLETED",
            "message": "",
            "deployment_config": self.config["deployments"][0],
            "target_num_replicas": self.target,
            "required_resources": {"CPU": 0},
            "replicas": replicas,
        }
        return {
            "name": name,
            "route_prefix": self.config["route_prefix"],
            "docs_path": None,
            "status": self.status,
            "message": "",
            "last_deployed_time_s": 1763000000.0,
            "deployed_app_config": None if self.status == "DELETING" else self.config,
            "source": "declarative",
            "deployments": {DEPLOYMENT: deployment},
        }


@dataclass
class RayCluster:
    """A RayCluster as KubeRay, its autoscaler and Serve drive it."""

    manifest: Manifest
    address: str
    applications: dict[str, Application] = field(default_factory=dict)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the manifest has changed."""

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"]["namespace"])

    def group(self, name: str) -> Manifest | None:
        groups = self.manifest["spec"].get("workerGroupSpecs") or []
        return next((group for group in groups if group["groupName"] == name), None)


class FakeRay:
    """All RayClusters of an API server."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._clusters: dict[str, RayCluster] = {}
        """By uid."""
        self._at: dict[str, RayCluster] = {}
        """By the address of a pod."""
        self._next = int(FIRST_ADDRESS)
        self._tasks: set[asyncio.Task[None]] = set()
        self.puts: list[float] = []
        """When each Serve config came, in seconds since 1970."""
        self.counts = {"details": 0, "proofs": 0}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/serve/applications/", self._details),
            web.put("/api/serve/applications/", self._put),
            web.get("/_r/{namespace}/{name}/{revision}" + PROVE_PATH, self._prove),
        ]

    async def follow(self) -> None:
        """Drive every RayCluster that comes, until cancelled."""
        async for event, manifest in self._api.follow("/apis/ray.io/v1/rayclusters"):
            uid = manifest["metadata"]["uid"]
            standing = self._clusters.get(uid)
            if event == "DELETED":
                self._clusters.pop(uid, None)
            elif standing is None:
                self._clusters[uid] = standing = RayCluster(manifest, self._address())
                self._at[standing.address] = standing
                self._start(self._bring_up(standing))
            else:
                standing.manifest = manifest
                standing.grown.set()

    def _address(self) -> str:
        self._next += 1
        return str(IPv4Address(self._next))

    def _start(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()

    async def _bring_up(self, ray: RayCluster) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": ray.name}, "data": {"auth_token": TOKEN}}
        await self._api.create(f"/api/v1/namespaces/{ray.namespace}/secrets", secret)
        await asyncio.sleep(HEAD_S)
        head = ray.manifest["spec"]["headGroupSpec"]["template"]
        await self._pod(ray, f"{ray.name}-head", head, {"ray.io/node-type": "head"}, ray.address)
        ready = [{"type": kind, "status": "True"} for kind in ("HeadPodReady", "RayClusterProvisioned")]
        stamped = [
            {**each, "reason": "Up", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"} for each in ready
        ]
        status = {"conditions": stamped, "head": {"podIP": ray.address}, "state": "ready"}
        path = f"/apis/ray.io/v1/namespaces/{ray.namespace}/rayclusters/{ray.name}/status"
        await self._api.merge(path, {"status": status})

    async def _pod(self, ray: RayCluster, name: str, template: Manifest, labels: dict[str, str], address: str) -> None:
        path = f"/api/v1/namespaces/{ray.namespace}/pods"
        owner = {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "name": ray.name,
            "uid": ray.manifest["metadata"]["uid"],
        }
        metadata = {
            "name": name,
            "labels": {**template["metadata"].get("labels", {}), "ray.io/cluster": ray.name, **labels},
            "ownerReferences": [owner],
        }
        await self._api.create(
            path, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        )
        await self._api.merge(f"{path}/{name}/status", {"status": running(address)})

    async def _put(self, request: web.Request) -> web.Response:
        ray = self._asked(request)
        self.puts.append(time.time())
        wanted = {each["name"]: each for each in (await request.json())["applications"]}
        for name, app in ray.applications.items():
            if name not in wanted and app.status != "DELETING":
                app.status = "DELETING"
                self._restart(app, self._stop(ray, name, app))
        for name, config in wanted.items():
            standing = ray.applications.get(name)
            if standing is None:
                standing = ray.applications[name] = Application(config)
            elif standing.config == config or standing.status == "DELETING":
                continue
            standing.config, standing.status = config, "DEPLOYING"
            self._restart(standing, self._deploy(ray, name, standing))
        return web.json_response({})

    def _restart(self, app: Application, coroutine: Any) -> None:
        if app.task is not None:
            app.task.cancel()
        app.task = self._start(coroutine)

    async def _deploy(self, ray: RayCluster, name: str, app: Application) -> None:
        (resource,) = app.config["deployments"][0]["ray_actor_options"]["resources"]
        group_name = resource.removeprefix("group-")
        while (group := ray.group(group_name)) is None:
            ray.grown.clear()
            await ray.grown.wait()
        while len(app.workers) < app.target:
            address = self._address()
            pod = f"{ray.name}-{address.replace('.', '-')}"
            labels = {"ray.io/node-type": "worker", "ray.io/group": group_name}
            await self._pod(ray, pod, group["template"], labels, address)
            self._at[address], app.workers[pod] = ray, address
        await asyncio.sleep(REPLICA_S)
        app.status = "RUNNING"

    async def _stop(self, ray: RayCluster, name: str, app: Application) -> None:
        await asyncio.sleep(STOP_S)
        del ray.applications[name]
        for pod, address in app.workers.items():
            await self._api.delete(f"/api/v1/namespaces/{ray.namespace}/pods/{pod}")
            del self._at[address]

    async def _details(self, request: web.Request) -> web.Response:
        self.counts["details"] += 1
        applications = self._asked(request).applications
        told = {name: app.details(name) for name, app in applications.items()}
        now = time.time()
        # At each answer another one, as Ray's (ray/serve/schema.py, ControllerHealthMetrics).
        fares = {"timestamp": now, "uptime_s": now % 1000, "num_control_loops": self.counts["details"]}
        return web.json_response({"applications": told, "controller_health_metrics": fares})

    async def _prove(self, request: web.Request) -> web.Response:
        self.counts["proofs"] += 1
        namespace, name, revision = (request.match_info[part] for part in ("namespace", "name", "revision"))
        app = self._asked(request).applications.get(f"{namespace}.{name}.{revision}")
        if app is None or app.status != "RUNNING":
            return web.Response(status=404, text="no such route")
        ledger = StartLedger(imports_s=1, load_s=1, warmup_s=1)
        proof = Proof(service=f"{namespace}/{name}", revision=revision, seconds=0.01, tokens=1, start=ledger)
        return web.Response(text=proof.model_dump_json(), content_type="application/json")

    def _asked(self, request: web.Request) -> RayCluster:
        address = request.get_extra_info("sockname")[0]
        if address not in self._at:
            raise web.HTTPServiceUnavailable(text=f"no Ray pod has {address}")
        return self._at[address]


def running(address: str) -> Manifest:
    """The status of a pod that is up."""
    at = "2026-01-01T00:00:00Z"
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("PodScheduled", "Ready")]
    container = {
        "name": "ray",
        "image": "bench",
        "imageID": "bench",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": at}},
    }
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": conditions,
        "containerStatuses": [container],
    }
