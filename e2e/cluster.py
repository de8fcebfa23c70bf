"""The cluster under test, through kubectl and helm as a user has them.

`make e2e` runs inside the network of the one-node cluster (`hack/cluster exec`), where Services are reachable by their
addresses. For any other cluster MODELYARD_E2E_GATEWAY says where its gateway is reached from here.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

REPOSITORY = Path(__file__).parents[1]
SYSTEM = "modelyard-system"
RELEASE = "modelyard"
CLI = str(REPOSITORY / ".venv/bin/modelyard")

Value = TypeVar("Value")


def run(*command: str, given: str | None = None, check: bool = True, timeout: float = 180) -> str:
    """The standard output of a command; an AssertionError with what it said where it fails."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def kubectl(*arguments: str, given: str | None = None, check: bool = True, timeout: float = 180) -> str:
    """kubectl's output."""
    return run("kubectl", *arguments, given=given, check=check, timeout=timeout)


def get(kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
    """An object, or None."""
    where = ["-n", namespace] if namespace else []
    text = kubectl("get", kind, name, *where, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def items(kind: str, namespace: str | None = None, labels: str = "") -> list[dict[str, Any]]:
    """Objects of a kind in one namespace or in all."""
    where = ["-n", namespace] if namespace else ["-A"]
    found: list[dict[str, Any]] = json.loads(kubectl("get", kind, *where, "-l", labels, "-o", "json"))["items"]
    return found


def apply(manifest: dict[str, Any] | str | Path, namespace: str | None = None) -> None:
    """`kubectl apply` of an object, a text, or a file."""
    where = ["-n", namespace] if namespace else []
    if isinstance(manifest, Path):
        kubectl("apply", *where, "-f", str(manifest))
    else:
        kubectl("apply", *where, "-f", "-", given=manifest if isinstance(manifest, str) else json.dumps(manifest))


def make_serving_cluster(namespace: str, name: str, **runtime: object) -> None:
    """A small ServingCluster that mounts the prepared models."""
    spec = {
        "head": {"cpu": "50m", "memory": "2Gi"},
        "runtime": {"volumes": [{"claim": "models"}], **runtime},
    }
    metadata = {"name": name, "namespace": namespace}
    apply({"apiVersion": "modelyard.dev/v1alpha1", "kind": "ServingCluster", "metadata": metadata, "spec": spec})


def make_pool(name: str, **spec: object) -> None:
    """A pool of processors of its own on the node, with one small shape unless `spec` says otherwise."""
    shapes = [{"name": "small", "cpu": "100m", "memory": "2Gi"}]
    manifest = {"apiVersion": "modelyard.dev/v1alpha1", "kind": "AcceleratorPool", "metadata": {"name": name}}
    apply({**manifest, "spec": {"device": "cpu", "shapes": shapes, **spec}})


def until(what: str, look: Callable[[], Value | None], *, within: float) -> Value:
    """The first true answer of `look`, or an AssertionError that says what did not come."""
    deadline = time.monotonic() + within
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:.0f} s: {what}")
        time.sleep(0.5)


def operator_holds_the_lease() -> bool:
    """Whether there is one operator, and it may write."""
    lease = get("lease", "modelyard-operator", SYSTEM) or {}
    pods = [p["metadata"]["name"] for p in items("pods", SYSTEM, "app.kubernetes.io/component=operator")]
    return len(pods) == 1 and str(lease.get("spec", {}).get("holderIdentity", "")).startswith(pods[0])


def pod_processes(pattern: str) -> set[int]:
    """Processes in pods of the one-node cluster by a pattern of their command lines, as its machine sees them."""
    found = {int(pid) for pid in run("pgrep", "-f", pattern, check=False).split()}
    return {pid for pid in found if _is_in_pod(pid)}


def _is_in_pod(pid: int) -> bool:
    try:
        return "kubepods" in Path(f"/proc/{pid}/cgroup").read_text()
    except FileNotFoundError:
        return False


def replica_processes(model: str) -> set[int]:
    """The processes of a service's replicas on the one-node cluster."""
    application = model.replace("/", ".")
    return pod_processes(f"ServeReplica:{application}\\.")


@dataclass(frozen=True)
class Service:
    """A ModelService of the test."""

    namespace: str
    name: str

    @property
    def model(self) -> str:
        return f"{self.namespace}/{self.name}"

    def read(self) -> dict[str, Any]:
        found = get("modelservice", self.name, self.namespace)
        assert found is not None, f"ModelService {self.model} is gone"
        return found

    @property
    def status(self) -> dict[str, Any]:
        return self.read().get("status") or {}

    def condition(self, kind: str) -> dict[str, Any]:
        return next((c for c in self.status.get("conditions", []) if c["type"] == kind), {})

    def wait(self, kind: str = "Ready", *, within: float = 180, generation: int | None = None) -> dict[str, Any]:
        """Until the condition is true for the spec as it is now."""
        wanted = self.read()["metadata"]["generation"] if generation is None else generation

        def look() -> dict[str, Any] | None:
            found = self.condition(kind)
            good = found.get("status") == "True" and found.get("observedGeneration", 0) >= wanted
            return found if good else None

        try:
            return until(f"{kind} of {self.model}", look, within=within)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status, indent=1)}") from None

    def wait_reason(self, kind: str, *reasons: str, within: float = 120) -> dict[str, Any]:
        """Until the condition has one of the reasons."""

        def look() -> dict[str, Any] | None:
            found = self.condition(kind)
            return found if found.get("reason") in reasons else None

        try:
            return until(f"{kind} of {self.model} to be {reasons}", look, within=within)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status, indent=1)}") from None

    def settled(self, *, within: float = 180) -> dict[str, Any]:
        """Until nothing moves: ready, and no other revision is left."""

        def look() -> dict[str, Any] | None:
            manifest = self.read()
            status, generation = manifest.get("status") or {}, manifest["metadata"]["generation"]
            conditions = {c["type"]: c for c in status.get("conditions", [])}
            done = (
                status.get("observedGeneration") == generation
                and conditions.get("Ready", {}).get("status") == "True"
                and conditions.get("Progressing", {}).get("status") == "False"
                and len(status.get("revisions", [])) == 1
            )
            return status if done else None

        try:
            return until(f"{self.model} to settle", look, within=within)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status, indent=1)}") from None

    def patch(self, **spec: Any) -> None:
        """A merge patch of the spec."""
        change = json.dumps({"spec": spec})
        kubectl("patch", "modelservice", self.name, "-n", self.namespace, "--type=merge", "-p", change)

    def delete(self, *, within: float = 120) -> None:
        kubectl("delete", "modelservice", self.name, "-n", self.namespace, "--wait=false", "--ignore-not-found")
        until(
            f"{self.model} to be gone",
            lambda: get("modelservice", self.name, self.namespace) is None,
            within=within,
        )
