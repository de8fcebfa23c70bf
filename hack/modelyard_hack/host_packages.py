"""Debian packages that the cluster needs; only those whose program is missing are installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from modelyard_hack.layout import cache_folder
from modelyard_hack.step import StepError, run, step

# package: a file it brings, as a program on PATH or as an absolute path
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "procps": "sysctl",
    "openssl": "openssl",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "debootstrap": "debootstrap",
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdlib.h",
    "wrk": "wrk",
}


def missing_packages() -> list[str]:
    return [
        package
        for package, proof in PACKAGES.items()
        if not (Path(proof).exists() if proof.startswith("/") else shutil.which(proof))
    ]


def ensure_host_packages() -> None:
    """Install what is missing with apt-get; StepError names the packages where that is not possible."""
    missing = missing_packages()
    if not missing:
        return
    remedy = f"install these packages of Debian 12 by hand: {' '.join(missing)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise StepError(f"missing on this machine: {', '.join(missing)} (no apt-get, or not root)", remedy=remedy)
    cache_folder().mkdir(parents=True, exist_ok=True)
    log = cache_folder() / "apt.log"
    with step(f"install {' '.join(missing)}", log=log, remedy=remedy):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update"], env=env, log=log)
        run(["apt-get", "install", "-y", "--no-install-recommends", *missing], env=env, log=log)
