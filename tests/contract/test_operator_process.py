"""The operator as a process, with the rights of the chart's account and no others, against the real API server.

There are no controllers and no Ray here: it is about starting, holding, reporting, restarting and stopping.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.charts.chart import NAMESPACE, rendered
from tests.contract.manifests import cluster, cpu_pool, service
from tests.kubectl import Kubectl

from modelyard_hack.control_plane import free_ports
from modelyard_hack.layout import StateFolder
from modelyard_hack.processes import running_pid
from modelyard_operator.reconcile.finalizer import FINALIZER

SPACE = "operator-process"
READY_REASON = "{.status.conditions[?(@.type=='Ready')].reason}"


class Operator:
    """The process; `log` collects what it says over all its lives."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self.kubeconfig, self.log = kubeconfig, log
        self.stuck_after_s = 120.0
        self.probe_port, self.metrics_port = free_ports(2)
        self.environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "MODELYARD_NAMESPACE": NAMESPACE,
            "MODELYARD_SERVING_IMAGE": "example.com/serving:1",
            "MODELYARD_REDIS_IMAGE": "example.com/redis:1",
            "MODELYARD_GATEWAY_URL": "http://gateway",
            "MODELYARD_PROBE_PORT": str(self.probe_port),
            "MODELYARD_METRICS_PORT": str(self.metrics_port),
        }
        self.program = ["-m", "modelyard_operator"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-P", *self.program]
        environment = self.environment | {"MODELYARD_STUCK_AFTER_S": str(self.stuck_after_s)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """As a node that loses its power does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> tuple[int, float]:
        """As the kubelet does; the exit code and how many seconds it took."""
        assert self._process is not None
        begun = time.monotonic()
        self._process.terminate()
        return self._process.wait(timeout=30), time.monotonic() - begun

    def freeze(self) -> None:
        """As a node does that has no time for it, or a debugger."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() == 0

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def probe(self) -> int | None:
        """The status of the liveness probe; None where nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.probe_port}/healthz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def healthy(self) -> bool:
        return self.probe() == 200

    def holds_lease(self) -> bool:
        return "modelyard_lease_held 1.0" in self.metrics()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def until(holds: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def operator(kubectl: Kubectl, tmp_path: Path) -> Iterator[Operator]:
    """An operator that is not started yet, with the chart's account."""
    for name in (NAMESPACE, SPACE):
        kubectl("create", "namespace", name)
    accounts = [each for each in rendered({}) if "Role" in each["kind"] or each["kind"] == "ServiceAccount"]
    kubectl.must("apply", "-f", "-", manifest=accounts)
    token = kubectl.must("create", "token", "modelyard-operator", "-n", NAMESPACE).out.strip()
    config = json.loads(kubectl.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(json.dumps(config))
    made = Operator(kubeconfig, tmp_path / "operator.log")
    yield made
    made.close()
    for what in kubectl.must("get", "modelservices,servingclusters", "-n", SPACE, "-o", "name").out.split():
        kubectl("patch", what, "-n", SPACE, "--type=merge", '--patch={"metadata": {"finalizers": null}}')
        kubectl("delete", what, "-n", SPACE, "--ignore-not-found")
    kubectl.must("delete", "acceleratorpools", "--all")
    kubectl.must("delete", "lease/modelyard-operator", "-n", NAMESPACE, "--ignore-not-found")


def _create(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", manifest=cpu_pool())
    for manifest in (cluster(volumes=[{"claim": "models"}]), service(servingCluster={"name": "shared"})):
        here = manifest | {"metadata": {"name": manifest["metadata"]["name"], "namespace": SPACE}}
        kubectl.must("create", "-f", "-", manifest=here)


def _metadata(kubectl: Kubectl, what: str, *where: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.must("get", what, *where, "-o", "json").json()["metadata"]
    return found


def _reason(kubectl: Kubectl, what: str) -> str:
    return kubectl.must("get", what, "-n", SPACE, "-o", f"jsonpath={READY_REASON}").out


def test_it_holds_reports_and_lets_go_with_the_charts_rights_alone(kubectl: Kubectl, operator: Operator) -> None:
    operator.start()
    until(operator.healthy, "the probe answers")
    _create(kubectl)
    until(lambda: _reason(kubectl, "servingcluster/shared") == "KubeRayAbsent", "the cluster says what it lacks")
    until(lambda: _reason(kubectl, "modelservice/smollm2") != "", "the service has a Ready condition")

    for what in ("modelservice/smollm2", "servingcluster/shared"):
        metadata = _metadata(kubectl, what, "-n", SPACE)
        assert metadata["finalizers"] == [FINALIZER]
        assert "annotations" not in metadata
    assert "finalizers" not in _metadata(kubectl, "acceleratorpool/cpu")
    assert _metadata(kubectl, "configmap/modelyard-routes", "-n", NAMESPACE)["name"] == "modelyard-routes"
    events = kubectl.must("get", "events", "-n", SPACE, "-o", "jsonpath={.items[*].reason}").out.split()
    assert "KubeRayAbsent" in events
    metrics = operator.metrics()
    assert 'modelyard_loops{kind="ModelService"} 1.0' in metrics
    assert 'modelyard_reconcile_seconds_count{kind="ServingCluster",outcome="ok"}' in metrics

    kubectl.must("delete", "modelservice/smollm2", "-n", SPACE, "--timeout=45s")
    kubectl.must("delete", "servingcluster/shared", "-n", SPACE, "--timeout=20s")
    until(lambda: 'modelyard_loops{kind="ModelService"} 0.0' in operator.metrics(), "its loop has ended")

    assert operator.terminate()[0] == 0
    forbidden = [line for line in operator.said() if "orbidden" in json.dumps(line)]
    assert forbidden == []
    assert [line for line in operator.said() if line["level"] == "ERROR"] == []


def test_a_deletion_that_was_asked_for_while_it_was_down_is_carried_out(kubectl: Kubectl, operator: Operator) -> None:
    operator.start()
    _create(kubectl)
    until(lambda: "finalizers" in _metadata(kubectl, "modelservice/smollm2", "-n", SPACE), "it is held")
    operator.kill()
    kubectl.must("delete", "modelservice/smollm2", "-n", SPACE, "--wait=false")
    assert "deletionTimestamp" in _metadata(kubectl, "modelservice/smollm2", "-n", SPACE)
    operator.start()
    refusal = ("get", "configmap/modelyard-routes", "-n", NAMESPACE, "-o", "jsonpath={.data.routes\\.json}")
    until(lambda: "is being deleted" in kubectl(*refusal).out, "the gateways were told before it went")
    until(lambda: kubectl("get", "modelservice/smollm2", "-n", SPACE).code != 0, "it is gone", timeout_s=45)


def test_it_ends_soon_when_it_is_told_to(kubectl: Kubectl, operator: Operator) -> None:
    operator.start()
    _create(kubectl)
    until(lambda: "finalizers" in _metadata(kubectl, "modelservice/smollm2", "-n", SPACE), "it works")
    code, seconds = operator.terminate()
    assert code == 0
    assert seconds < 5, operator.log.read_text()


@pytest.mark.timeout(120)
def test_a_loop_that_hangs_fails_the_probe(kubectl: Kubectl, operator: Operator) -> None:
    """The API server takes requests and answers none; when it answers again, so does the probe."""
    operator.stuck_after_s = 2
    operator.start()
    until(operator.healthy, "the probe answers")
    _create(kubectl)
    until(lambda: _reason(kubectl, "servingcluster/shared") == "KubeRayAbsent", "the cluster's loop turns")
    apiserver = running_pid(StateFolder(kubectl.kubeconfig.parents[1]), "apiserver")
    assert apiserver is not None
    os.kill(apiserver, signal.SIGSTOP)
    try:
        until(lambda: operator.probe() == 500, "the probe fails", timeout_s=60)
    finally:
        os.kill(apiserver, signal.SIGCONT)
    until(operator.healthy, "the probe answers again", timeout_s=60)


@pytest.mark.timeout(120)
def test_of_two_operators_one_writes_and_the_other_takes_over(
    kubectl: Kubectl, operator: Operator, tmp_path: Path
) -> None:
    second = Operator(operator.kubeconfig, tmp_path / "second.log")
    operator.start()
    until(operator.healthy, "the probe answers")
    until(operator.holds_lease, "the first one holds the Lease")
    second.start()
    try:
        until(second.healthy, "who waits is healthy too")
        _create(kubectl)
        until(lambda: _reason(kubectl, "servingcluster/shared") == "KubeRayAbsent", "the first one works")
        assert not second.holds_lease()
        operator.freeze()
        frozen = time.monotonic()
        until(second.holds_lease, "the second one takes over")
        assert 5 < time.monotonic() - frozen < 15
        operator.thaw()
        until(operator.ended, "the thawed one sees that it was followed, and ends")
        assert any("the Lease was lost" in line["message"] for line in operator.said())
        operator.start()
        until(operator.healthy, "it is there again")
        released = time.monotonic()
        assert second.terminate()[0] == 0
        until(operator.holds_lease, "a Lease that was released is taken at once")
        assert time.monotonic() - released < 6
    finally:
        second.close()
