"""The cluster that a command talks to."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import list_kube_config_contexts

from modelyard_operator.cli.failure import CliFailure
from modelyard_operator.cli.pod_logs import KubePodLogs, PodLogs
from modelyard_operator.kube.aio_client import AioKubeClient, configuration, is_in_cluster
from modelyard_operator.kube.client import KubeClient

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Cluster:
    """Ways into a cluster, and the namespace for commands that name none."""

    kube: KubeClient
    pod_logs: PodLogs
    namespace: str


Connect = Callable[[Path | None, str | None], AbstractAsyncContextManager[Cluster]]
"""From a kubeconfig and a context (None: as kubectl does) to a cluster; tests put a fake in its place."""


@asynccontextmanager
async def connect(kubeconfig: Path | None, context: str | None) -> AsyncIterator[Cluster]:
    """The cluster of a kubeconfig; `CliFailure` where there is none."""
    try:
        configured = await configuration(kubeconfig, context=context)
        namespace = _namespace(kubeconfig, context)
    except Exception as error:
        raise CliFailure(
            f"There is no cluster to talk to: {error}",
            "Set KUBECONFIG, or give --kubeconfig and --context; `kubectl config get-contexts` lists what there is. "
            "`modelyard run` needs no cluster.",
        ) from error
    async with ApiClient(configured) as api:
        yield Cluster(AioKubeClient(api), KubePodLogs(api), namespace)


def _namespace(kubeconfig: Path | None, context: str | None) -> str:
    if is_in_cluster(kubeconfig, context):
        return _POD_NAMESPACE.read_text().strip()
    contexts, active = list_kube_config_contexts(str(kubeconfig) if kubeconfig is not None else None)
    chosen = active if context is None else next(each for each in contexts if each["name"] == context)
    return str(chosen["context"].get("namespace") or "default")
