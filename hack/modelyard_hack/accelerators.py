"""Accelerators that are not there: the scheduler and the kubelet count them as real ones.

Kubernetes lets anyone who may patch a node's status advertise an extended resource; the kubelet keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard_hack.access import Access
from modelyard_hack.node import NODE


@dataclass(frozen=True)
class FakeAccelerators:
    """`count` units of `resource` on the node, with labels `key=value` and taints `key=value:Effect`."""

    resource: str
    count: int
    labels: Sequence[str] = ()
    taints: Sequence[str] = ()

    def status_patch(self, *, present: bool) -> dict[str, object]:
        value = {self.resource: str(self.count) if present else None}
        return {"status": {"capacity": value, "allocatable": value}}


def advertise(access: Access, fake: FakeAccelerators, *, present: bool) -> None:
    """Put the accelerators, labels and taints on the node, or take them away."""
    access.kubectl(
        "patch",
        "node",
        NODE,
        "--subresource=status",
        "--type=merge",
        f"--patch={json.dumps(fake.status_patch(present=present))}",
    )
    for label in fake.labels:
        access.kubectl("label", "node", NODE, "--overwrite", label if present else f"{label.split('=')[0]}-")
    tainted = json.loads(access.kubectl("get", "node", NODE, "-o", "json"))["spec"].get("taints", [])
    keys = {taint["key"] for taint in tainted}
    for taint in fake.taints:
        key = taint.split("=")[0].split(":")[0]
        if present:
            access.kubectl("taint", "node", NODE, "--overwrite", taint)
        elif key in keys:
            access.kubectl("taint", "node", NODE, f"{key}-")
