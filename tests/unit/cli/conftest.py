"""A cluster in memory behind the commands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.unit.fakes.kube import FakeKube
from typer.testing import CliRunner, Result

from modelyard_operator.cli.cluster import Cluster
from modelyard_operator.cli.main import app
from modelyard_operator.cli.pod_logs import LogLine, PodName
from modelyard_operator.kube.errors import KubeError

Manifest = dict[str, Any]


@dataclass
class FakePodLogs:
    """`PodLogs` in memory: `lines` by pod; a followed pod says `coming` once and then nothing more."""

    said: dict[str, list[LogLine]] = field(default_factory=dict)
    coming: dict[str, list[LogLine]] = field(default_factory=dict)
    error: KubeError | None = None

    async def lines(self, pod: PodName, *, since: str | None, follow: bool) -> AsyncIterator[LogLine]:
        if self.error is not None:
            raise self.error
        for line in self.said.get(pod.name, []) + (self.coming.get(pod.name, []) if follow else []):
            if since is None or line.stamp >= since:
                yield line


@dataclass
class Shell:
    """Runs commands against the fake cluster."""

    kube: FakeKube = field(default_factory=FakeKube)
    pod_logs: FakePodLogs = field(default_factory=FakePodLogs)
    asked_for: tuple[Path | None, str | None] | None = None
    """Kubeconfig and context of the last command."""

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, obj=self.connect)

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.kube, self.pod_logs, namespace="team-a")

    @asynccontextmanager
    async def connect(self, kubeconfig: Path | None, context: str | None) -> AsyncIterator[Cluster]:
        self.asked_for = kubeconfig, context
        yield self.cluster

    def put_service(self, name: str, *, namespace: str = "team-a", **status: Any) -> Manifest:
        """A ModelService with this status."""
        spec = {"model": {"source": {"uri": f"pvc://models/{name}"}}, "replicas": 2}
        return self.kube.put(
            {
                "apiVersion": "modelyard.dev/v1alpha1",
                "kind": "ModelService",
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
                "status": status,
            }
        )


@pytest.fixture
def shell() -> Shell:
    return Shell()


def condition(kind: str, status: str, reason: str, message: str = "") -> Manifest:
    """A condition as the operator writes it."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def serving(revision: str = "1a2b3c4d") -> Manifest:
    """The status of a service that is well."""
    return {
        "observedGeneration": 1,
        "conditions": [
            condition("Accepted", "True", "Accepted", "Runs on cpu/small."),
            condition("Available", "True", "Serving", "2 of 2 replicas serve."),
            condition("Progressing", "False", "Complete"),
            condition("Degraded", "False", "Healthy"),
            condition("Ready", "True", "Serving", "2 of 2 replicas serve."),
        ],
        "url": "http://gateway/team-a/smollm2",
        "servingCluster": "modelyard/default",
        "workerShape": "cpu/small",
        "activeRevision": revision,
        "revisions": [{"name": revision, "phase": "Active", "traffic": 100}],
        "replicas": 2,
        "desiredReplicas": 2,
        "coldStart": {
            "revision": revision,
            "provisioning": 4.0,
            "scheduling": 0.1,
            "image": 2.5,
            "rayJoin": 10.0,
            "imports": 5.0,
            "load": 1.0,
            "warmup": 0.5,
            "proof": 0.25,
            "total": 23.4,
        },
    }
