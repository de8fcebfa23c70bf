"""What runs in the cluster from the start: CoreDNS and KubeRay, built from their Go modules."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from string import Template

from modelyard_hack import network
from modelyard_hack.access import Access
from modelyard_hack.layout import REPOSITORY
from modelyard_hack.step import run
from modelyard_hack.tools import BY_NAME, cached_folder, module_sources, tool_path, tool_version

MANIFESTS = REPOSITORY / "hack" / "manifests"
COREDNS, KUBERAY = BY_NAME["coredns"], BY_NAME["kuberay-operator"]


def coredns_image() -> str:
    return f"localhost/coredns:{tool_version(COREDNS)}"


def kuberay_image() -> str:
    return f"localhost/kuberay-operator:{tool_version(KUBERAY)}"


def coredns_manifests() -> str:
    template = Template((MANIFESTS / "coredns.yaml").read_text())
    return template.substitute(image=coredns_image(), address=network.DNS_ADDRESS)


def kuberay_manifests() -> str:
    """KubeRay's CRDs, RBAC and operator: its own kustomization under ours, rendered once for both as they stand."""
    overlay = MANIFESTS / "kuberay"
    ours = hashlib.sha256((overlay / "kustomization.yaml").read_bytes()).hexdigest()[:8]
    rendered = cached_folder(KUBERAY) / f"manifests-{ours}.yaml"
    if not rendered.exists():
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            run(["cp", "--recursive", "--no-preserve=mode", str(module_sources(KUBERAY) / "config"), folder])
            shutil.copy(overlay / "namespace.yaml", work)
            text = Template((overlay / "kustomization.yaml").read_text()).substitute(image=kuberay_image())
            (work / "kustomization.yaml").write_text(text)
            rendered.write_text(run([tool_path("kubectl"), "kustomize", folder]))
    return rendered.read_text()


def apply_addons(access: Access) -> None:
    access.apply(coredns_manifests())
    access.apply(kuberay_manifests())


def await_addons(access: Access) -> None:
    """Wait until both Deployments have rolled out; StepError names the pods that do not start."""
    for namespace, name in (("kube-system", "coredns"), ("kuberay-system", "kuberay-operator")):
        access.kubectl("rollout", "status", f"deployment/{name}", f"--namespace={namespace}", "--timeout=120s")
