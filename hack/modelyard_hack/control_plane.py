"""etcd, kube-apiserver, controller manager and scheduler; also alone on loopback, for contract tests."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from modelyard_hack import processes
from modelyard_hack.layout import StateFolder
from modelyard_hack.pki import USERS, ensure_pki
from modelyard_hack.processes import Component
from modelyard_hack.step import StepError, wait_until
from modelyard_hack.tools import CONTROL_PLANE, ensure_tools, tool_path

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # Leases and the kubelet's own status would drown what tests look for.
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/openapi*"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Endpoints:
    """Addresses and ports of a control plane. `service_range` is where ClusterIPs come from."""

    address: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    service_range: str
    service_address: str

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.api_port}"

    @property
    def etcd(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"


def etcd(state: StateFolder, endpoints: Endpoints, *, namespace: Path | None = None) -> Component:
    peer = f"http://127.0.0.1:{endpoints.etcd_peer_port}"
    return Component(
        "etcd",
        (
            tool_path("etcd"),
            "--name=node0",
            f"--data-dir={state.etcd}",
            "--log-level=warn",
            f"--listen-client-urls={endpoints.etcd}",
            f"--advertise-client-urls={endpoints.etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=node0={peer}",
            # The data is thrown away with the cluster: losing it in a power cut costs nothing.
            "--unsafe-no-fsync",
        ),
        namespace,
    )


def apiserver(state: StateFolder, endpoints: Endpoints, *extra: str, namespace: Path | None = None) -> Component:
    pki = state.pki
    policy = state.config / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    return Component(
        "apiserver",
        (
            tool_path("kube-apiserver"),
            f"--etcd-servers={endpoints.etcd}",
            f"--bind-address={endpoints.address}",
            f"--advertise-address={endpoints.address}",
            f"--secure-port={endpoints.api_port}",
            f"--service-cluster-ip-range={endpoints.service_range}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--service-account-key-file={pki / 'service-account.key'}",
            f"--service-account-signing-key-file={pki / 'service-account.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={state.audit_log}",
            "--audit-log-maxsize=512",
            "--audit-log-maxbackup=1",
            "--allow-privileged=true",
            "--profiling=false",
            # Nothing to hand over to when one server of one goes down.
            "--shutdown-delay-duration=0s",
            *extra,
        ),
        namespace,
    )


def controller_manager(state: StateFolder, *, pod_range: str, namespace: Path) -> Component:
    return Component(
        "controller-manager",
        (
            tool_path("kube-controller-manager"),
            f"--kubeconfig={state.kubeconfig_of('controller-manager')}",
            f"--service-account-private-key-file={state.pki / 'service-account.key'}",
            f"--root-ca-file={state.pki / 'ca.crt'}",
            "--use-service-account-credentials=true",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={pod_range}",
            "--leader-elect=false",
        ),
        namespace,
    )


def scheduler(state: StateFolder, *, namespace: Path) -> Component:
    return Component(
        "scheduler",
        (
            tool_path("kube-scheduler"),
            f"--kubeconfig={state.kubeconfig_of('scheduler')}",
            "--leader-elect=false",
        ),
        namespace,
    )


def api_ready(state: StateFolder, server: str) -> bool:
    """Whether the API server, reachable from this process, says that it is ready."""
    context = ssl.create_default_context(cafile=str(state.pki / "ca.crt"))
    context.load_cert_chain(state.pki / "admin.crt", state.pki / "admin.key")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{server}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports that nobody listens on at this moment on loopback."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def start_loopback_apiserver(folder: Path) -> Path:
    """Start etcd and kube-apiserver on 127.0.0.1 with state in `folder`; returns the admin's kubeconfig.

    RBAC decides, and the admin may impersonate. There are no controllers: nothing is scheduled, garbage
    collected or given a service account. StepError carries the log when one of the two does not come up.
    """
    ensure_tools(CONTROL_PLANE)
    state = StateFolder(folder.resolve()).make()
    api_port, etcd_port, peer_port = free_ports(3)
    endpoints = Endpoints(
        "127.0.0.1", api_port, etcd_port, peer_port, service_range="10.0.0.0/24", service_address="10.0.0.1"
    )
    try:
        processes.start(state, replace(etcd(state, endpoints), bound=True))
        ensure_pki(
            state,
            server=endpoints.server,
            addresses=("127.0.0.1", endpoints.service_address),
            users=USERS[:1],
        )
        processes.start(
            state,
            replace(
                apiserver(
                    state,
                    endpoints,
                    "--authorization-mode=RBAC",
                    # Without a controller manager no namespace gets its default account.
                    "--disable-admission-plugins=ServiceAccount",
                ),
                bound=True,
            ),
        )
        await_apiserver(state, lambda: api_ready(state, endpoints.server))
    except BaseException:
        stop_loopback_apiserver(folder)
        raise
    return state.kubeconfig


def stop_loopback_apiserver(folder: Path) -> None:
    """Stop what `start_loopback_apiserver` started in this folder; logs stay there."""
    state = StateFolder(folder.resolve())
    processes.stop(state, "apiserver", grace=2)
    processes.stop(state, "etcd", grace=2)
    for used in (state.pki, state.etcd):
        shutil.rmtree(used, ignore_errors=True)


@contextmanager
def loopback_apiserver(folder: Path) -> Iterator[Path]:
    """A real API server on loopback for the length of the block; yields the admin's kubeconfig."""
    path = start_loopback_apiserver(folder)
    try:
        yield path
    finally:
        stop_loopback_apiserver(folder)


def await_apiserver(state: StateFolder, ready: Callable[[], bool]) -> None:
    """Wait until the API server says it is ready; StepError at once when it or etcd has ended."""

    def alive_and_ready() -> bool:
        for name in ("etcd", "apiserver"):
            if processes.running_pid(state, name) is None:
                raise StepError(f"{name} ended", log=state.log(name))
        return ready()

    try:
        wait_until(alive_and_ready, what="kube-apiserver", timeout=60)
    except StepError as failure:
        failure.log = failure.log or state.log("apiserver")
        raise
