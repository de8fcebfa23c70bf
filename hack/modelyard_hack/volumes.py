"""Folders of this machine as volumes, without a storage provisioner: for a claim by name, or for any claim."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from modelyard_hack.access import Access
from modelyard_hack.step import StepError

STORAGE_CLASS = "modelyard-manual"
LOCAL_CLASS = "local"
LOCAL_VOLUMES = 40
"""How many claims may hold one between two `hack/cluster up`."""
_LOCAL_LABEL = "modelyard.dev/local-volume"


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


def local_objects(folders: list[Path]) -> list[dict[str, object]]:
    """The default StorageClass and a PersistentVolume of 1 GiB on each folder."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage_class: dict[str, object] = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": LOCAL_CLASS, "annotations": default},
        "provisioner": "kubernetes.io/no-provisioner",
    }
    return [storage_class, *(_local_volume(folder) for folder in folders)]


def _local_volume(folder: Path) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{LOCAL_CLASS}-{folder.name}", "labels": {_LOCAL_LABEL: "true"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": LOCAL_CLASS,
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }


def ensure_local_volumes(access: Access, root: Path) -> None:
    """Empty volumes for claims of the default StorageClass; those that a claim has left are made anew."""
    found = json.loads(access.kubectl("get", "persistentvolume", "-l", _LOCAL_LABEL, "-o", "json"))["items"]
    left = [v["metadata"]["name"] for v in found if v["status"].get("phase") in {"Released", "Failed"}]
    if left:
        access.kubectl("delete", "persistentvolume", *left, "--wait")
    standing = {v["metadata"]["name"] for v in found} - set(left)
    folders = [root / f"{number:02}" for number in range(LOCAL_VOLUMES)]
    missing = [folder for folder in folders if f"{LOCAL_CLASS}-{folder.name}" not in standing]
    for folder in missing:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # hostPath volumes belong to root whatever the pod's fsGroup says.
        folder.chmod(0o777)
    if missing:
        access.apply(local_objects(missing))
