"""A folder of this machine as a claim in any namespace, without a storage provisioner."""

from __future__ import annotations

import json
from pathlib import Path

from modelyard_hack.access import Access
from modelyard_hack.step import StepError

STORAGE_CLASS = "modelyard-manual"


def volume_objects(namespace: str, claim: str, path: Path) -> list[dict[str, object]]:
    """The namespace, a read-only PersistentVolume on `path` and the claim bound to it, each by name."""
    name = f"{namespace}-{claim}"
    shared: dict[str, object] = {"accessModes": ["ReadOnlyMany"], "storageClassName": STORAGE_CLASS}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **shared,
                "capacity": {"storage": "1Ti"},
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(path), "type": "Directory"},
                "claimRef": {"namespace": namespace, "name": claim},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {**shared, "volumeName": name, "resources": {"requests": {"storage": "1Ti"}}},
        },
    ]


def bind_volume(access: Access, *, namespace: str, claim: str, path: Path) -> None:
    """Make the claim and wait until it is bound. A volume left over from a deleted namespace is made anew."""
    folder = path.resolve()
    if not folder.is_dir():
        raise StepError(f"--path {folder} is no folder", remedy="`make models` prepares the models' folder")
    left = access.kubectl("get", "persistentvolume", f"{namespace}-{claim}", "--ignore-not-found", "-o", "json")
    if left and json.loads(left)["status"].get("phase") in {"Released", "Failed"}:
        access.kubectl("delete", "persistentvolume", f"{namespace}-{claim}", "--wait")
    access.apply(volume_objects(namespace, claim, folder))
    access.kubectl(
        "wait",
        "--for=jsonpath={.status.phase}=Bound",
        f"persistentvolumeclaim/{claim}",
        f"--namespace={namespace}",
        "--timeout=30s",
    )
