"""The node: containerd, kubelet and kube-proxy, with every path inside the state folder."""

from __future__ import annotations

import json
from pathlib import Path

from modelyard_hack import cgroups, network
from modelyard_hack.layout import StateFolder
from modelyard_hack.processes import Component
from modelyard_hack.step import run, wait_until
from modelyard_hack.tools import tool_path

NODE = "node0"
PAUSE_IMAGE = "localhost/pause:1"
CNI_PLUGINS = "/usr/lib/cni"


def containerd_config(state: StateFolder) -> str:
    """containerd's own TOML; see its docs/cri/config.md for the keys."""
    root = state.containerd
    return f"""version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt"]
[grpc]
  address = "{state.containerd_socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE no process may lower its OOM score, and no sandbox would start.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{state.cni}/conf"
"""


def cni_config(state: StateFolder) -> dict[str, object]:
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": network.NODE_POD_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(state.cni / "ipam"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet_config(state: StateFolder, *, cgroup_v1: bool) -> dict[str, object]:
    """A KubeletConfiguration (kubelet.config.k8s.io/v1beta1)."""
    config: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.NAME}",
        "failSwapOn": False,
        "authentication": {
            "x509": {"clientCAFile": str(state.pki / "ca.crt")},
            "webhook": {"enabled": True},
            "anonymous": {"enabled": False},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [network.DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(state.config / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{state.containerd_socket}",
        # The machine's disk is shared with builds: only a disk that is really full may evict, and no longer than that.
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "500Mi", "imagefs.available": "500Mi"},
        "evictionPressureTransitionPeriod": "10s",
        "imageGCHighThresholdPercent": 99,
        "imageGCLowThresholdPercent": 98,
        "volumePluginDir": str(state.kubelet / "plugins"),
        "podLogsDir": str(state.kubelet / "podlogs"),
    }
    if cgroup_v1:
        config["failCgroupV1"] = False
    return config


def proxy_config(state: StateFolder) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(state.kubeconfig_of("proxy"))},
        "clusterCIDR": network.POD_RANGE,
        "hostnameOverride": NODE,
        # Connection tracking limits belong to the host, not to a namespace.
        "conntrack": {"maxPerCore": 0},
    }


def containerd(state: StateFolder) -> Component:
    (state.cni / "conf").mkdir(parents=True, exist_ok=True)
    (state.cni / "conf" / "10-pods.conflist").write_text(json.dumps(cni_config(state)))
    state.containerd.mkdir(parents=True, exist_ok=True)
    config = state.config / "containerd.toml"
    config.write_text(containerd_config(state))
    return Component("containerd", ("containerd", "--config", str(config)), network.NAMESPACE_PATH)


def kubelet(state: StateFolder) -> Component:
    (state.config / "resolv.conf").touch()
    config = state.config / "kubelet.json"
    config.write_text(json.dumps(kubelet_config(state, cgroup_v1=cgroups.is_v1())))
    return Component(
        "kubelet",
        (
            tool_path("kubelet"),
            f"--config={config}",
            f"--kubeconfig={state.kubeconfig_of('node')}",
            f"--hostname-override={NODE}",
            f"--node-ip={network.NODE_ADDRESS}",
            f"--root-dir={state.kubelet}",
            f"--cert-dir={state.kubelet / 'pki'}",
        ),
        network.NAMESPACE_PATH,
    )


def proxy(state: StateFolder) -> Component:
    config = state.config / "proxy.json"
    config.write_text(json.dumps(proxy_config(state)))
    return Component("kube-proxy", (tool_path("kube-proxy"), f"--config={config}"), network.NAMESPACE_PATH)


def ctr(state: StateFolder, *arguments: str) -> list[str]:
    """containerd's client, in the namespace that the kubelet uses."""
    return ["ctr", "--address", str(state.containerd_socket), "--namespace", "k8s.io", *arguments]


def remove_containers(state: StateFolder) -> None:
    """End and remove every container of the node while containerd still runs; images stay.

    The shims live in the pods' cgroups and end with them; containerd notices and takes the tasks away itself.
    """
    cgroups.kill_processes()
    wait_until(
        lambda: not run(ctr(state, "tasks", "list", "--quiet")).split(), what="the end of all containers", timeout=20
    )
    containers = run(ctr(state, "containers", "list", "--quiet")).split()
    if containers:
        run(ctr(state, "containers", "delete", *containers))


def mounts_below(mounts: str, folder: Path) -> list[str]:
    """Mount points below `folder` in the text of /proc/mounts, the deepest first."""
    points = [line.split()[1] for line in mounts.splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)


def unmount_below(folder: Path) -> None:
    for point in mounts_below(Path("/proc/mounts").read_text(), folder):
        run(["umount", "--lazy", point])


def forget_addresses(state: StateFolder) -> None:
    """Remove what the CNI library remembers, in its fixed folder, of pods that ended without a farewell."""
    for result in Path("/var/lib/cni/results").glob("*"):
        if str(state.containerd) in result.read_text():
            result.unlink()
