"""Programs built from pinned Go modules, cached by version and by the hash of what they are built from.

Each folder of `hack/tools` is a Go module of its own, so that the tools' dependencies never meet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelyard_hack.layout import REPOSITORY, cache_folder
from modelyard_hack.step import StepError, run, step

MODULES = REPOSITORY / "hack" / "tools"
KUBERAY_MODULE = "github.com/ray-project/kuberay/ray-operator"
# Without C the programs run in empty images.
BUILD_ENVIRONMENT = {"CGO_ENABLED": "0"}


@dataclass(frozen=True)
class Tool:
    """A program: its name, the folder of hack/tools that pins it, its Go module and its package.

    The package `.` is the folder's own, which puts the program together from the module.
    """

    name: str
    folder: str
    module: str
    package: str = ""

    @property
    def import_path(self) -> str:
        if self.package == ".":
            return "."
        return f"{self.module}/{self.package}" if self.package else self.module


def _kubernetes(name: str) -> Tool:
    return Tool(name, "kubernetes", "k8s.io/kubernetes", f"cmd/{name}")


CONTROL_PLANE = (
    Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-apiserver"),
    _kubernetes("kubectl"),
)
TOOLS = (
    *CONTROL_PLANE,
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Tool("coredns", "coredns", "github.com/coredns/coredns"),
    Tool("kuberay-operator", "kuberay", KUBERAY_MODULE),
    Tool("helm", "helm", "helm.sh/helm/v3", "cmd/helm"),
)
SOURCES = (
    Tool("versitygw", "versitygw", "github.com/versity/versitygw", "cmd/versitygw"),
    Tool("registry", "registry", "github.com/distribution/distribution/v3", "."),
)
"""Servers that models are downloaded from in tests; no cluster needs them."""
BY_NAME = {tool.name: tool for tool in (*TOOLS, *SOURCES)}


def tools_folder() -> Path:
    return cache_folder() / "tools"


def bin_folder() -> Path:
    """A folder with a link to every tool that was built, for PATH."""
    return tools_folder() / "bin"


def required_version(go_mod: str, module: str) -> str:
    """The version that a go.mod text requires of `module`; StepError when it requires none."""
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise StepError(f"go.mod requires no {module}", remedy="run `go get -tool` in its folder of hack/tools")
    return found.group(1)


def linker_flags(tool: Tool, version: str) -> str:
    """Kubernetes and Helm know their versions only when the linker is told them."""
    values: dict[str, str] = {}
    if tool.folder == "kubernetes":
        major, minor = version.lstrip("v").split(".")[:2]
        values = {
            f"k8s.io/component-base/version.{name}": value
            for name, value in (("gitVersion", version), ("gitMajor", major), ("gitMinor", minor))
        }
    elif tool.folder == "helm":
        # `helm template` renders for this Kubernetes; without it for one of years ago.
        major, minor = tool_version(BY_NAME["kubectl"]).lstrip("v").split(".")[:2]
        values = {"helm.sh/helm/v3/internal/version.version": version}
        for package in ("chartutil", "lint/rules"):
            values[f"helm.sh/helm/v3/pkg/{package}.k8sVersionMajor"] = major
            values[f"helm.sh/helm/v3/pkg/{package}.k8sVersionMinor"] = minor
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


def tool_version(tool: Tool) -> str:
    return required_version((MODULES / tool.folder / "go.mod").read_text(), tool.module)


def cached_folder(tool: Tool) -> Path:
    """Where the builds of this tool's module are kept; changes with its version, go.mod, go.sum, sources and flags."""
    digest = hashlib.sha256(linker_flags(tool, tool_version(tool)).encode())
    folder = MODULES / tool.folder
    for path in (folder / "go.mod", folder / "go.sum", *sorted(folder.glob("*.go"))):
        digest.update(path.read_bytes())
    return tools_folder() / f"{tool.folder}-{tool_version(tool)}-{digest.hexdigest()[:12]}"


def tool_path(name: str) -> str:
    """The built program; StepError when it was not built yet."""
    path = cached_folder(BY_NAME[name]) / name
    if not path.exists():
        raise StepError(f"{name} is not built", remedy="run `hack/cluster tools`")
    return str(path)


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock `name`: two commands may not build or change the same thing at once."""
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_tools(tools: Sequence[Tool] = TOOLS) -> None:
    """Build what is missing, one by one (a build uses all cores), and link it into `bin_folder`."""
    with exclusive("tools"):
        for tool in tools:
            target = cached_folder(tool) / tool.name
            if not target.exists():
                _build(tool, target)
            link = bin_folder() / tool.name
            if not link.is_symlink() or link.readlink() != target:
                bin_folder().mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(target)


def _build(tool: Tool, target: Path) -> None:
    if shutil.which("go") is None:
        raise StepError("the Go toolchain is not installed", remedy="install Go 1.26 or newer and put `go` on PATH")
    target.parent.mkdir(parents=True, exist_ok=True)
    version, partial = tool_version(tool), target.with_suffix(".partial")
    log = target.with_suffix(".build.log")
    with step(f"build {tool.name} {version}", log=log, remedy="`go env GOPROXY` must reach a module proxy"):
        run(
            [
                "go",
                "build",
                "-trimpath",
                "-ldflags",
                linker_flags(tool, version),
                "-o",
                str(partial),
                tool.import_path,
            ],
            cwd=MODULES / tool.folder,
            env={**os.environ, **BUILD_ENVIRONMENT},
            log=log,
        )
        partial.rename(target)


def module_sources(tool: Tool) -> Path:
    """The folder of the module cache that holds the module's files (downloaded when missing)."""
    text = run(["go", "mod", "download", "-json", f"{tool.module}@{tool_version(tool)}"], cwd=MODULES / tool.folder)
    return Path(json.loads(text)["Dir"])
