"""A whole platform in memory around the operator's loops: API server, KubeRay, Ray Serve, gateways, and a clock.

Nothing moves by itself: `turn` lets every loop look once and then the world make one step.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.desired.samples import cluster_manifest, pool_manifest, service_manifest
from tests.unit.fakes.kube import FakeKube

from modelyard_gateway.published import published_text
from modelyard_gateway.routes import CONFIG_MAP as ROUTES_NAME
from modelyard_gateway.routes import SCHEMA, SCHEMA_ANNOTATION, RouteDocument
from modelyard_operator.desired.names import COMPONENT_LABEL
from modelyard_operator.desired.routes import routed_revisions
from modelyard_operator.kube.client import (
    ACCELERATOR_POOL,
    CLAIM,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    MODEL_SERVICE,
    POD,
    RAY_CLUSTER,
    SERVING_CLUSTER,
    STATEFUL_SET,
    Kind,
    Manifest,
    kind_of,
)
from modelyard_operator.kube.errors import KubeError, Unavailable
from modelyard_operator.observed.downloads import Download
from modelyard_operator.ray.client import ConfigRefused, Proof, ServeClient, ServeUnreachable
from modelyard_operator.reconcile import finalizer
from modelyard_operator.reconcile.accelerator_pool import AcceleratorPoolLoop
from modelyard_operator.reconcile.app import App
from modelyard_operator.reconcile.lease import Permit
from modelyard_operator.reconcile.leased_kube import LeasedKube
from modelyard_operator.reconcile.model_service import ModelServiceLoop
from modelyard_operator.reconcile.reading import InvalidSpec
from modelyard_operator.reconcile.result import Key, Reconcile, Result
from modelyard_operator.reconcile.routes import ROUTES, RoutePublisher
from modelyard_operator.reconcile.serving_cluster import ServingClusterLoop
from modelyard_operator.settings import Settings

GATEWAYS = ("10.9.0.1", "10.9.0.2")
CALM = 8
"""Seconds after which a world in which nothing happens is taken to be at rest; longer than any grace period."""
SERVICE, CLUSTER = Key("team-a", "smollm2"), Key("models", "shared")
GATEWAY_LABELS = {"app.kubernetes.io/name": "modelyard", "app.kubernetes.io/component": "gateway"}
SETTINGS = Settings(
    namespace="modelyard",
    serving_image="serving:1",
    redis_image="redis:1",
    default_serving_cluster="models/shared",
    gateway_url="http://gateway.modelyard.svc:8000",
)
KUBERAY_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "rayclusters.ray.io"},
    "spec": {
        "versions": [
            {
                "name": "v1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "properties": {
                            "spec": {
                                "properties": {
                                    "authOptions": {},
                                    "workerGroupSpecs": {"items": {"properties": {"idleTimeoutSeconds": {}}}},
                                }
                            }
                        }
                    }
                },
            }
        ]
    },
}


class DyingKube(FakeKube):
    """Fails right after its n-th write, as an operator that is killed there."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_after: int | None = None
        self.default_storage_class: str | None = "standard"
        """What the API server puts into a claim that names none."""

    async def apply(self, manifest: Manifest) -> Manifest:
        before = len(self.writes)
        result = await super().apply(manifest)
        self._die(before)
        return result

    async def apply_status(self, manifest: Manifest) -> Manifest:
        before = len(self.writes)
        result = await super().apply_status(manifest)
        self._die(before)
        return result

    async def set_finalizers(self, manifest: Manifest, finalizers: Sequence[str]) -> None:
        before = len(self.writes)
        await super().set_finalizers(manifest, finalizers)
        self._die(before)

    async def delete(self, kind: Kind, name: str, *, namespace: str | None = None, uid: str | None = None) -> bool:
        before = len(self.writes)
        done = await super().delete(kind, name, namespace=namespace, uid=uid)
        self._die(before)
        return done

    async def create(self, manifest: Manifest) -> Manifest:
        before = len(self.writes)
        if kind_of(manifest) == CLAIM and self.default_storage_class is not None:
            spec = {"storageClassName": self.default_storage_class, **manifest["spec"]}
            manifest = {**manifest, "spec": spec}
        result = await super().create(manifest)
        self._die(before)
        return result

    def _die(self, before: int) -> None:
        if self.dies_after is not None and before < self.dies_after <= len(self.writes):
            self.dies_after = None
            raise Unavailable("the operator was killed here")


@dataclass
class FakeServe:
    """Ray Serve of one RayCluster: `ServeClient`, with applications that need steps to start and to stop."""

    config: dict[str, Any] | None = None
    """What was put last, whole."""
    states: dict[str, str] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    puts: list[list[str]] = field(default_factory=list)
    reachable: bool = True
    refuses: str | None = None
    refuses_application: Callable[[dict[str, Any]], bool] = lambda _: False
    """For such an application it refuses a whole config."""
    refusals: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    """Model URIs that fail, with what Ray then says."""
    forgotten: set[str] = field(default_factory=set)
    """Applications that run, and that a new controller does not know of yet."""
    without_replicas: set[str] = field(default_factory=set)
    """Applications of which a new controller has not found the replicas yet."""
    loading: set[str] = field(default_factory=set)
    """Model URIs whose replicas do not come to an end with their start."""
    slow: set[str] = field(default_factory=set)
    """Applications that finish no request and so never go."""
    replicas: dict[str, int] = field(default_factory=dict)
    """What Ray's autoscaler decided."""

    async def details(self) -> Mapping[str, Any]:
        if not self.reachable:
            raise ServeUnreachable("no answer")
        return {"applications": {name: self._details(name) for name in self.states if name not in self.forgotten}}

    def _details(self, name: str) -> dict[str, Any]:
        running = self.target(name) if self.states[name] == "RUNNING" else 0
        state = "RECOVERING" if name in self.without_replicas else "RUNNING"
        replicas = [{"state": state, "node_ip": address} for address in self.addresses(name)[:running]]
        if self._uri(name) in self.loading:
            replicas = [{"state": "STARTING", "node_ip": address} for address in self.addresses(name)]
        return {
            "name": name,
            "status": self.states[name],
            "message": self.messages.get(name, ""),
            "deployed_app_config": json.loads(json.dumps(self.configs[name])),
            "deployments": {"model": {"target_num_replicas": self.target(name), "replicas": replicas}},
        }

    def _uri(self, name: str) -> str:
        return str(self.configs[name]["deployments"][0]["user_config"]["model"]["uri"])

    def target(self, name: str) -> int:
        deployment = self.configs[name]["deployments"][0]
        scaling = deployment.get("autoscaling_config")
        if scaling is None:
            return int(deployment["num_replicas"])
        asked = max(self.replicas.get(name, int(scaling["initial_replicas"])), int(scaling["min_replicas"]))
        return min(asked, int(scaling["max_replicas"]))

    def addresses(self, name: str) -> list[str]:
        """Where the replicas are: one worker each."""
        return [f"10.1.{sum(name.encode()) % 250}.{i + 1}" for i in range(self.target(name))]

    async def put(self, config: Mapping[str, Any]) -> None:
        if not self.reachable:
            raise ServeUnreachable("no answer")
        if self.refuses is not None:
            raise ConfigRefused(self.refuses)
        applications = {each["name"]: each for each in config["applications"]}
        for each in applications.values():
            if self.refuses_application(each):
                self.refusals += 1
                raise ConfigRefused(f"1 validation error for ServeDeploySchema: {each['name']}")
        self.puts.append(sorted(applications))
        self.config = json.loads(json.dumps(config))
        for name in self.states.keys() - applications.keys():
            self.states[name] = "DELETING"
        for name, wanted in applications.items():
            if self.states.get(name) == "DELETING" or name not in self.states:
                self.states[name] = "DEPLOYING"
            auto = wanted["deployments"][0].get("autoscaling_config")
            if auto is not None and name in self.configs and self.configs[name] != wanted:
                # As Ray does at any change of a deployment (autoscaling_state.py, register).
                self.replicas[name] = int(auto["initial_replicas"])
            self.configs[name] = json.loads(json.dumps(wanted))

    def step(self) -> None:
        for name, state in list(self.states.items()):
            if state == "DELETING" and name not in self.slow:
                del self.states[name], self.configs[name]
                self.messages.pop(name, None)
            elif state == "DEPLOYING" and self._uri(name) not in self.loading:
                self.states[name] = "DEPLOY_FAILED" if self._uri(name) in self.broken else "RUNNING"
                self.messages[name] = self.broken.get(self._uri(name), "")


class Undisputed:
    """The permit of an only operator."""

    def check(self) -> None:
        return

    async def confirm(self) -> None:
        return


class World:
    """The platform; `service` is applied by `apply_service`."""

    def __init__(self) -> None:
        self.kube = DyingKube()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.serves: dict[str, FakeServe] = {}
        self.broken: dict[str, str] = {}
        self.loading: set[str] = set()
        self.download_seen: Download | None = None
        """What pods tell of a download."""
        self.asked_for_downloads: list[tuple[str, str, str]] = []
        self.proof_failures: dict[str, str] = {}
        self.proofs: list[tuple[str, str]] = []
        self.published: list[tuple[bool, str, str]] = []
        self.gateways: dict[str, str | None] = {}
        self.deaf: set[str] = set()
        """Gateways that hear of no new routes."""
        self.kuberay_works = True
        self.redis_works = True
        self.idle_workers: list[str] = []
        """Workers without a replica: Ray Serve does not listen on them."""
        self.settings = SETTINGS
        self.permit: Permit = Undisputed()
        self.start_operator()
        for manifest in (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}},
            KUBERAY_CRD,
            cluster_manifest(),
            pool_manifest(),
        ):
            self.kube.put(manifest)
        for address in GATEWAYS:
            self.add_gateway(address, schema=SCHEMA)

    def add_gateway(self, address: str, *, schema: int) -> None:
        """A pod of the gateway that reads route documents up to this schema; the first release did not say so."""
        pod = _pod(f"gateway-{address[-1]}", "modelyard", GATEWAY_LABELS, address)
        if schema > 1:
            pod["metadata"]["annotations"] = {SCHEMA_ANNOTATION: str(schema)}
        self.kube.put(pod)
        self.gateways[address] = None

    def start_operator(self) -> None:
        """A new process: nothing is remembered."""
        self.app = App(
            kube=LeasedKube(self.kube, self.permit),
            serve_clients=self,
            prober=self,
            gateways=self,
            settings=self.settings,
            events=self,
            lease=self.permit,
            clock=lambda: self.now,
        )
        self.kube.watch = self.watched
        self.service_loop = ModelServiceLoop(self.app)
        self.cluster_loop = ServingClusterLoop(self.app)
        self.routes = RoutePublisher(self.app)
        self.pool_loop = AcceleratorPoolLoop(self.app)

    def watched(self, event: str, manifest: Manifest) -> None:
        """What `handlers` does with an event."""
        kind = kind_of(manifest)
        if event == "DELETED":
            self.app.store.note_deleted(kind, manifest)
        else:
            self.app.store.note(kind, manifest)

    async def complete(self) -> None:
        """The complete LISTs with which an operator starts."""
        for kind in self.app.store.kinds:
            if not self.app.store.is_complete(kind):
                await self.app.store.complete(kind, self.kube)

    # The ways out: ServeClients, Prober, GatewayClient, Recorder.

    def client(self, address: str, token: str) -> ServeClient:
        assert token == "secret"
        return self.serves[address]

    async def prove(self, address: str, prefix: str, *, timeout_s: float) -> Proof:
        self.proofs.append((address, prefix))
        application = prefix.removeprefix("/_r/").replace("/", ".")
        running = any(serve.states.get(application) == "RUNNING" for serve in self.serves.values())
        if address.removesuffix(":8000") in self.idle_workers:
            return Proof(ok=False, message="connection refused")
        failure = self.proof_failures.get(address)
        if not running or failure:
            return Proof(ok=False, message=failure or "503")
        return Proof(ok=True, message="", seconds=0.5, ledger={"imports": 1.0, "load": 2.0, "warmup": 0.5})

    async def download(self, address: str, service: str, revision: str) -> Download | None:
        self.asked_for_downloads.append((address, service, revision))
        return self.download_seen

    async def applied_version(self, address: str) -> str | None:
        published = routed_revisions(self.document)
        for service, routed in self.app.routed.items():
            assert published[service] == routed.revision, "what gateways may leave any moment is taken for certain"
        return self.gateways[address]

    def publish(self, regarding: Manifest, *, warning: bool, reason: str, message: str) -> None:
        self.published.append((warning, reason, message))

    # What users do.

    def apply_service(self, uri: str = "pvc://models/smollm2", name: str = "smollm2", **spec: Any) -> None:
        manifest = service_manifest(uri, **spec)
        self.edit({**manifest, "metadata": {**manifest["metadata"], "name": name, "uid": f"uid-{name}"}})

    def edit(self, manifest: Manifest) -> None:
        """As `kubectl apply` does: what others wrote into the object stays."""
        metadata = manifest["metadata"]
        standing = self.kube.find(kind_of(manifest), metadata["name"], namespace=metadata.get("namespace", ""))
        if standing is not None:
            finalizers = standing["metadata"].get("finalizers", [])
            manifest = {
                **manifest,
                "status": standing.get("status") or {},
                "metadata": {**metadata, "finalizers": finalizers},
            }
        self.kube.put(manifest)

    def delete(self, kind: Kind, key: Key) -> None:
        """As kubectl does: the object waits for its finalizers."""
        manifest = self.kube.find(kind, key.name, namespace=key.namespace)
        assert manifest is not None
        assert manifest["metadata"]["finalizers"] == [finalizer.FINALIZER]
        manifest["metadata"]["deletionTimestamp"] = self.now.isoformat()
        self.kube.put(manifest)

    # The passing of time.

    async def turn(self) -> None:
        """Every loop looks once; then the world moves on by a second."""
        await self.complete()
        for manifest in self.kube.all(ACCELERATOR_POOL):
            with suppress(InvalidSpec):
                await self.look_at_pool(manifest["metadata"]["name"])
        for manifest in self.kube.all(MODEL_SERVICE):
            key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            await self.reconcile(MODEL_SERVICE, key, self.service_loop.reconcile)
        for manifest in self.kube.all(SERVING_CLUSTER):
            key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            await self.reconcile(SERVING_CLUSTER, key, self.cluster_loop.reconcile)
        await self.routes.reconcile(ROUTES[1])
        self.step()

    async def reconcile(self, kind: Kind, key: Key, look: Reconcile) -> Result:
        """One turn of an object's loop, as `reconcile.loop` takes it."""
        await finalizer.hold(self.kube, kind, key)
        result = await look(key)
        if result.done:
            await finalizer.release(self.kube, kind, key)
        return result

    async def look_at_pool(self, name: str = "cpu") -> Manifest:
        await self.pool_loop.reconcile(Key("", name))
        found = self.kube.find(ACCELERATOR_POOL, name)
        assert found is not None
        return found

    def step(self) -> None:
        """KubeRay, Ray Serve, the kubelet and the gateways do their part."""
        self.now += timedelta(seconds=1)
        self.kube.collect_garbage()
        self._redis()
        if self.kuberay_works:
            self._kuberay()
        for serve in self.serves.values():
            serve.broken, serve.loading = self.broken, self.loading
            serve.step()
        routes = self.kube.find(CONFIG_MAP, ROUTES_NAME, namespace="modelyard")
        if routes is not None:
            self.gateways |= dict.fromkeys(self.gateways.keys() - self.deaf, self.document.version)

    def _redis(self) -> None:
        """The controllers of claims and StatefulSets."""
        for claim in self.kube.all(CLAIM):
            if claim["spec"].get("storageClassName") and not claim.get("status"):
                metadata = claim["metadata"]
                self.kube.put_status(CLAIM, metadata["name"], {"phase": "Bound"}, namespace=metadata["namespace"])
        standing = self.kube.all(STATEFUL_SET)
        wanted = {f"{each['metadata']['name']}-0": each for each in standing}
        for pod in self.kube.all(POD):
            is_redis = pod["metadata"]["labels"].get(COMPONENT_LABEL) == "redis"
            if is_redis and pod["metadata"]["name"] not in wanted:
                self.kube.remove(POD, pod["metadata"]["name"], namespace=pod["metadata"]["namespace"])
        for name, each in wanted.items():
            namespace = each["metadata"]["namespace"]
            claim = self.kube.find(CLAIM, each["metadata"]["name"], namespace=namespace) or {}
            if claim.get("status") and self.redis_works:
                self.kube.put(_pod(name, namespace, each["spec"]["template"]["metadata"]["labels"], "10.3.0.1"))

    def _kuberay(self) -> None:
        standing = self.kube.all(RAY_CLUSTER)
        live = {m["metadata"]["name"] for m in standing}
        for pod in self.kube.all(POD):
            ray = pod["metadata"]["labels"].get("ray.io/cluster")
            if ray is not None and ray not in live:
                self.kube.remove(POD, pod["metadata"]["name"], namespace=pod["metadata"]["namespace"])
        for manifest in standing:
            if manifest["metadata"].get("deletionTimestamp") is None:
                self._run_ray(manifest)

    def _run_ray(self, manifest: Manifest) -> None:
        name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        address = f"10.2.{sum(name.encode()) % 250}.1"
        labels = {**manifest["metadata"]["labels"], "ray.io/cluster": name}
        if not manifest.get("status"):
            token = base64.b64encode(b"secret").decode()
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}}
            self.kube.put({**secret, "data": {"auth_token": token}})
            head = _pod(f"{name}-head", namespace, {**labels, "ray.io/node-type": "head"}, address)
            self.kube.put(head)
            self.serves[f"{address}:8265"] = FakeServe()
            since = self.now.isoformat()
            ready = [
                {"type": kind, "status": "True", "lastTransitionTime": since}
                for kind in ("HeadPodReady", "RayClusterProvisioned")
            ]
            self.kube.put_status(
                RAY_CLUSTER, name, {"conditions": ready, "head": {"podIP": address}}, namespace=namespace
            )
        self._workers(name, namespace, labels, self.serves[f"{address}:8265"])

    def _workers(self, name: str, namespace: str, labels: dict[str, str], serve: FakeServe) -> None:
        """Ray's autoscaler: a worker for each replica, none for nothing."""
        wanted: dict[str, Manifest] = {}
        for application in serve.states:
            (resource,) = serve.configs[application]["deployments"][0]["ray_actor_options"]["resources"]
            group = {"ray.io/node-type": "worker", "ray.io/group": resource.removeprefix("group-")}
            for address in serve.addresses(application):
                pod = _pod(f"{name}-{address.replace('.', '-')}", namespace, {**labels, **group}, address)
                wanted[pod["metadata"]["name"]] = pod
        for pod in self.kube.all(POD):
            pod_labels = pod["metadata"]["labels"]
            is_worker = pod_labels.get("ray.io/node-type") == "worker" and pod_labels["ray.io/cluster"] == name
            if is_worker and pod["metadata"]["name"] not in wanted:
                self.kube.remove(POD, pod["metadata"]["name"], namespace=namespace)
        for address in self.idle_workers:
            group = {"ray.io/node-type": "worker", "ray.io/group": "idle"}
            pod = _pod(f"{name}-{address.replace('.', '-')}", namespace, {**labels, **group}, address)
            wanted[pod["metadata"]["name"]] = pod
        for pod in wanted.values():
            self.kube.put(pod)

    async def settle(self, turns: int = 80) -> None:
        """Turn until nothing is written and nothing moves for a few seconds."""
        calm = 0
        for _ in range(turns):
            before = len(self.kube.writes), self.applications, self.app.routed
            await self.turn()
            calm = calm + 1 if before == (len(self.kube.writes), self.applications, self.app.routed) else 0
            if calm == CALM:
                return
        raise AssertionError(f"it never comes to rest: {self.kube.writes[-8:]}, {self.state()}")

    async def settle_and_die(self, after: int) -> bool:
        """As `settle`, but the operator dies after so many writes and starts again; False if there were fewer."""
        self.kube.dies_after = len(self.kube.writes) + after
        for _ in range(60):
            try:
                await self.turn()
            except KubeError:
                self.start_operator()
                self.step()
                await self.settle()
                return True
        self.kube.dies_after = None
        return False

    # What there is to see.

    @property
    def applications(self) -> dict[str, str]:
        live = {f"10.2.{sum(m['metadata']['name'].encode()) % 250}.1:8265" for m in self.kube.all(RAY_CLUSTER)}
        return {n: s for a, serve in self.serves.items() if a in live for n, s in serve.states.items()}

    @property
    def serve(self) -> FakeServe:
        """The only Ray Serve."""
        (only,) = self.serves.values()
        return only

    @property
    def revisions(self) -> dict[str, str]:
        return {
            m["metadata"]["name"]: m["metadata"]["annotations"]["modelyard.dev/phase"]
            for m in self.kube.all(CONTROLLER_REVISION)
        }

    @property
    def document(self) -> RouteDocument:
        routes = self.kube.find(CONFIG_MAP, ROUTES_NAME, namespace="modelyard")
        assert routes is not None
        return RouteDocument.from_json(published_text(routes.get("data"), routes.get("binaryData")) or "")

    def conditions(self, kind: Kind = MODEL_SERVICE, key: Key = SERVICE) -> dict[str, tuple[str, str]]:
        """Status and reason by type."""
        manifest = self.kube.find(kind, key.name, namespace=key.namespace)
        assert manifest is not None
        conditions = (manifest.get("status") or {}).get("conditions", [])
        return {c["type"]: (c["status"], c["reason"]) for c in conditions}

    def message(self, condition: str, kind: Kind = MODEL_SERVICE, key: Key = SERVICE) -> str:
        manifest = self.kube.find(kind, key.name, namespace=key.namespace)
        assert manifest is not None
        return next(str(c["message"]) for c in manifest["status"]["conditions"] if c["type"] == condition)

    def state(self) -> dict[str, Any]:
        """Everything that matters in the end, without names and times that differ from run to run."""
        routes = self.kube.find(CONFIG_MAP, ROUTES_NAME, namespace="modelyard")
        services = [(m["metadata"]["name"], m.get("status", {})) for m in self.kube.all(MODEL_SERVICE)]
        return {
            "revisions": self.revisions,
            "applications": self.applications,
            "rayclusters": [
                (m["metadata"]["name"], [g["groupName"] for g in m["spec"].get("workerGroupSpecs", [])])
                for m in self.kube.all(RAY_CLUSTER)
            ],
            "pods": sorted(m["metadata"]["name"] for m in self.kube.all(POD)),
            "routes": self.document.to_json() if routes else None,
            "services": {
                name: (
                    [(c["type"], c["status"], c["reason"], c["message"]) for c in status.get("conditions", [])],
                    status.get("activeRevision"),
                    status.get("revisions"),
                    status.get("replicas"),
                )
                for name, status in services
            },
        }


def _pod(name: str, namespace: str, labels: dict[str, str], address: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
                {"type": "Ready", "status": "True"},
            ],
            "containerStatuses": [{"name": "ray", "state": {"running": {"startedAt": "2026-01-01T00:00:02Z"}}}],
        },
    }
