"""The operator's finalizer: an object stays until its loop has put away what exists outside the API server.

Not kopf's: it adds and removes its finalizer around `kopf.daemon`, but starts no daemon for an object that is
already being deleted, and lets that object go (kopf 1.45, `process_spawning_cause`). An operator that
restarts in the middle of a deletion would leave the work undone. See docs/design/loops.md.
"""

from modelyard_operator.kube.client import Kind, KubeClient
from modelyard_operator.reconcile.result import Key

FINALIZER = "modelyard.dev/operator"


async def hold(kube: KubeClient, kind: Kind, key: Key) -> None:
    """Put the finalizer on the object, unless it is gone or being deleted."""
    manifest = await kube.get(kind, key.name, namespace=key.namespace)
    if manifest is None or "deletionTimestamp" in manifest["metadata"]:
        return
    standing = manifest["metadata"].get("finalizers", [])
    if FINALIZER not in standing:
        await kube.set_finalizers(manifest, [*standing, FINALIZER])


async def release(kube: KubeClient, kind: Kind, key: Key) -> None:
    """Take the finalizer off an object that is being deleted."""
    manifest = await kube.get(kind, key.name, namespace=key.namespace)
    if manifest is None or "deletionTimestamp" not in manifest["metadata"]:
        return
    standing = manifest["metadata"].get("finalizers", [])
    if FINALIZER in standing:
        await kube.set_finalizers(manifest, [name for name in standing if name != FINALIZER])
