"""How commands reach a cluster: ours through its network namespace, any other through KUBECONFIG."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard_hack import network
from modelyard_hack.layout import StateFolder, cluster_state
from modelyard_hack.step import run
from modelyard_hack.tools import bin_folder

FIELD_MANAGER = "modelyard-hack"


@dataclass(frozen=True)
class Access:
    """A cluster to talk to: its kubeconfig, and whether only the network namespace reaches it (ours)."""

    kubeconfig: str
    namespaced: bool

    def command(self, *command: str) -> list[str]:
        return network.inside(*command) if self.namespaced else list(command)

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with KUBECONFIG and with our built tools first on PATH."""
        return {**base, "KUBECONFIG": self.kubeconfig, "PATH": f"{bin_folder()}:{base.get('PATH', '')}"}

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints; StepError carries its complaint."""
        command = self.command(str(bin_folder() / "kubectl"), *arguments)
        return run(command, stdin=stdin, env=self.environment(os.environ))

    def apply(self, manifests: str | Sequence[Mapping[str, object]]) -> None:
        """Server-side apply of YAML text or of objects."""
        text = (
            manifests
            if isinstance(manifests, str)
            else json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        )
        self.kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            f"--field-manager={FIELD_MANAGER}",
            "--filename=-",
            stdin=text,
        )


def own_access(state: StateFolder) -> Access:
    return Access(str(state.kubeconfig), namespaced=True)


def chosen_access(environment: Mapping[str, str]) -> Access:
    """The cluster that KUBECONFIG names; ours when it is unset or names ours."""
    state = cluster_state()
    named = environment.get("KUBECONFIG", "")
    if named and Path(named) != state.kubeconfig:
        return Access(named, namespaced=False)
    return own_access(state)
