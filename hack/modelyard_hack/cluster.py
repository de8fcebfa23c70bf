"""The one-node cluster as a whole: up, down, status; every step may be repeated."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from modelyard_hack import addons, cgroups, control_plane, images, network, node, processes
from modelyard_hack.access import Access, own_access
from modelyard_hack.control_plane import Endpoints
from modelyard_hack.host_packages import ensure_host_packages
from modelyard_hack.layout import StateFolder
from modelyard_hack.pki import USERS, ensure_pki
from modelyard_hack.processes import Component
from modelyard_hack.step import StepError, run, step, wait_until
from modelyard_hack.tools import ensure_tools, exclusive
from modelyard_hack.volumes import ensure_local_volumes

ENDPOINTS = Endpoints(network.NODE_ADDRESS, 6443, 2379, 2380, network.SERVICE_RANGE, network.API_SERVICE_ADDRESS)
NAMESPACE = network.NAMESPACE_PATH


COMPONENTS = ("etcd", "apiserver", "controller-manager", "scheduler", "containerd", "kubelet", "kube-proxy")


def component(state: StateFolder, name: str) -> Component:
    """How one of COMPONENTS is started; writes its configuration file."""
    makers: dict[str, Callable[[], Component]] = {
        "etcd": lambda: control_plane.etcd(state, ENDPOINTS, namespace=NAMESPACE),
        "apiserver": lambda: control_plane.apiserver(
            state,
            ENDPOINTS,
            "--authorization-mode=Node,RBAC",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={state.pki / 'admin.crt'}",
            f"--kubelet-client-key={state.pki / 'admin.key'}",
            namespace=NAMESPACE,
        ),
        "controller-manager": lambda: control_plane.controller_manager(
            state, pod_range=network.POD_RANGE, namespace=NAMESPACE
        ),
        "scheduler": lambda: control_plane.scheduler(state, namespace=NAMESPACE),
        "containerd": lambda: node.containerd(state),
        "kubelet": lambda: node.kubelet(state),
        "kube-proxy": lambda: node.proxy(state),
    }
    return makers[name]()


def start(state: StateFolder, name: str) -> None:
    """Start one daemon (nothing happens when it runs) and wait until it answers, where it can be asked."""
    # A running daemon's files are not written anew: kube-proxy ends itself when its own change.
    if processes.running_pid(state, name) is None:
        processes.start(state, component(state, name))
    access = own_access(state)
    if name == "apiserver":
        control_plane.await_apiserver(state, lambda: _answers(access, "get", "--raw=/readyz"))
    elif name == "containerd":
        wait_until(lambda: _succeeds(node.ctr(state, "version")), what=name, timeout=30)


def up(state: StateFolder) -> None:
    """Bring the cluster up to a ready KubeRay; what is up already is left as it is."""
    begin = time.monotonic()
    with exclusive("cluster"):
        ensure_host_packages()
        ensure_tools()
        if not state.pki.exists():
            # A new cluster: its logs, the audit log above all, begin empty. Those of the last one stayed till now.
            shutil.rmtree(state.logs, ignore_errors=True)
        state.make()
        with step("network namespace", remedy="this needs root and the `ip` program"):
            network.ensure_namespace()
        with step("certificates", remedy="this needs the openssl program"):
            ensure_pki(
                state,
                server=ENDPOINTS.server,
                addresses=("127.0.0.1", ENDPOINTS.address, ENDPOINTS.service_address),
                users=USERS,
            )
        cgroups.ensure()
        for name in COMPONENTS:
            if name == "kubelet":
                _ready_images(state)
            with step(name, log=state.log(name), remedy=f"`hack/cluster logs {name}`, then `hack/cluster down`"):
                start(state, name)
        _ready_node_and_addons(state)
    print(f"cluster ready after {time.monotonic() - begin:.1f} s; `hack/cluster kubectl get pods -A`")


def _ready_images(state: StateFolder) -> None:
    with step("node images", log=state.log("containerd"), remedy="`buildah images` should list them"):
        images.ensure_node_images(state)


def _ready_node_and_addons(state: StateFolder) -> None:
    access = own_access(state)
    with step("node ready", log=state.log("kubelet"), remedy="`hack/cluster logs kubelet`"):
        wait_until(lambda: _answers(access, "get", "node", node.NODE), what="node object", timeout=60)
        access.kubectl("wait", "--for=condition=Ready", f"node/{node.NODE}", "--timeout=60s")
    with step("default StorageClass with volumes", log=state.log("apiserver"), remedy="`hack/cluster logs apiserver`"):
        ensure_local_volumes(access, state.volumes)
    with step("apply CoreDNS and KubeRay", log=state.log("apiserver"), remedy="`hack/cluster logs apiserver`"):
        addons.apply_addons(access)
    with step(
        "CoreDNS and KubeRay ready",
        log=state.log("kubelet"),
        remedy="`hack/cluster kubectl describe pods -A` tells why a pod does not start",
    ):
        addons.await_addons(access)


def down(state: StateFolder) -> None:
    """Stop everything and leave no process, mount, network namespace or cgroup; images and caches stay."""
    with exclusive("cluster"):
        with step("stop the kubelet and the controllers"):
            for name in ("kubelet", "kube-proxy", "scheduler", "controller-manager"):
                processes.stop(state, name)
        with step("remove containers", log=state.log("containerd")):
            if processes.running_pid(state, "containerd") is not None:
                node.remove_containers(state)
            else:
                cgroups.kill_processes()
        with step("stop containerd, the API server and etcd"):
            for name in ("containerd", "apiserver", "etcd"):
                processes.stop(state, name)
            for pid in processes.processes_with(["-address", str(state.containerd_socket)]):
                processes.end(pid, grace=2)
        with step("remove mounts, network and cgroups"):
            node.unmount_below(state.root)
            node.forget_addresses(state)
            network.remove_namespace()
            busy = cgroups.remove()
            if busy:
                raise StepError(
                    f"cgroups still in use: {', '.join(map(str, busy[:3]))}",
                    remedy="their cgroup.procs name the processes; end them and run `hack/cluster down`",
                )
            for folder in (
                state.etcd,
                state.kubelet,
                state.cni,
                state.pki,
                state.config,
                state.volumes,
                state.kubeconfig.parent,
                state.containerd / "state",
            ):
                shutil.rmtree(folder, ignore_errors=True)
            for socket in state.containerd.glob("*.sock*"):
                socket.unlink()


def status(state: StateFolder) -> bool:
    """Print which daemons run and, where the API server answers, the nodes and pods. True when all run."""
    running = {name: processes.running_pid(state, name) for name in COMPONENTS}
    for name, pid in running.items():
        print(f"{name:20} {'pid ' + str(pid) if pid else 'not running'}")
    if running["apiserver"]:
        print(own_access(state).kubectl("get", "nodes,pods", "--all-namespaces"), end="")
    return all(running.values())


def _answers(access: Access, *arguments: str) -> bool:
    try:
        access.kubectl(*arguments)
    except StepError:
        return False
    return True


def _succeeds(command: list[str]) -> bool:
    try:
        run(command)
    except StepError:
        return False
    return True
