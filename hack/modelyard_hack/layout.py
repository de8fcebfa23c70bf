"""Where everything lives: the repository's inputs, and the cache folder that takes all state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/modelyard`, by default `~/.cache/modelyard`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "modelyard"


@dataclass(frozen=True)
class StateFolder:
    """The files of one running control plane or cluster. Removing it loses only that cluster."""

    root: Path

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def kubelet(self) -> Path:
        return self.root / "kubelet"

    @property
    def cni(self) -> Path:
        return self.root / "cni"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def containerd(self) -> Path:
        return self.root / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.containerd / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        return self.kubeconfig_of("admin")

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.jsonl"

    def kubeconfig_of(self, user: str) -> Path:
        return self.root / "kubeconfig" / f"{user}.json"

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    def make(self) -> StateFolder:
        for folder in (self.pki, self.logs, self.pids, self.config, self.kubeconfig.parent):
            folder.mkdir(parents=True, exist_ok=True)
        return self


def cluster_state() -> StateFolder:
    """State of the one cluster of this machine (`hack/cluster up`)."""
    return StateFolder(cache_folder() / "cluster")
