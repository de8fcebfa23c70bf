"""Building images with buildah and bringing them into the node's containerd without a registry.

An image is written into an OCI layout that already holds, as hard links, what the node has. So only new layers are
written, streamed and unpacked: a changed code layer on 6 GB of dependencies takes seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard_hack.layout import StateFolder
from modelyard_hack.node import ctr
from modelyard_hack.step import StepError, run

# Settings with which installers reach a package index; given to a build as a secret, never kept in an image.
INDEX_PREFIXES = (
    "PIP_",
    "UV_",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)


@dataclass(frozen=True)
class Build:
    """One run of a Dockerfile: the name of the result, the context folder and the build's inputs."""

    image: str
    dockerfile: Path
    context: Path
    target: str | None = None
    arguments: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


def index_environment(environment: Mapping[str, str]) -> str:
    """The lines NAME='value' of a build's secret `environment`, quoted for a shell."""

    def quoted(value: str) -> str:
        return "'" + value.replace("'", "'\\''") + "'"

    return "".join(
        f"{name}={quoted(value)}\n" for name, value in sorted(environment.items()) if name.startswith(INDEX_PREFIXES)
    )


def build(job: Build) -> None:
    """Run the Dockerfile with the host's network and certificates."""
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "environment"
        secret.touch(mode=0o600)
        secret.write_text(index_environment(os.environ))
        command = [
            "buildah",
            "build",
            "--quiet",
            "--layers=false",
            "--network=host",
            f"--tag={job.image}",
            f"--file={job.dockerfile}",
            f"--secret=id=environment,src={secret}",
        ]
        if Path("/etc/ssl/certs").is_dir():
            command.append("--volume=/etc/ssl/certs:/etc/ssl/certs:ro")
        command += [f"--build-arg={name}={value}" for name, value in job.arguments]
        command += [f"--label={name}={value}" for name, value in job.labels]
        if job.target is not None:
            command.append(f"--target={job.target}")
        run([*command, str(job.context)])


def built_image(name: str) -> str | None:
    """The id of a locally built image, or None."""
    found = subprocess.run(
        ["buildah", "images", "--quiet", "--no-trunc", name], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


def remove_image(name: str) -> None:
    """Remove a local image or tag; one that something else still needs is left."""
    subprocess.run(["buildah", "rmi", name], capture_output=True, check=False)


def tags(repository: str) -> list[str]:
    """The local images of `repository` as name:tag."""
    lines = run(["buildah", "images", "--format={{.Name}}:{{.Tag}}"]).splitlines()
    return [line for line in lines if line.rpartition(":")[0] == repository]


def image_label(name: str, label: str) -> str | None:
    """The value of a label of a locally built image; None when either does not exist."""
    found = subprocess.run(["buildah", "inspect", "--type=image", name], capture_output=True, text=True, check=False)
    if found.returncode:
        return None
    labels = json.loads(found.stdout)["OCIv1"]["config"].get("Labels") or {}
    return None if labels.get(label) is None else str(labels[label])


def loaded_images(state: StateFolder) -> dict[str, str]:
    """The images of the node: name to manifest digest."""
    lines = run(ctr(state, "images", "list")).splitlines()[1:]
    return {fields[0]: fields[2] for fields in map(str.split, lines)}


def tag(state: StateFolder, image: str, another: str) -> None:
    """Give an image of the node another name too."""
    run(ctr(state, "images", "tag", "--force", image, another))


def blobs_folder(state: StateFolder) -> Path:
    return state.containerd / "root" / "io.containerd.content.v1.content" / "blobs" / "sha256"


def load(state: StateFolder, image: str) -> bool:
    """Bring a built image into the node; False when the node has just this one already."""
    if built_image(image) is None:
        raise StepError(f"{image} is not built", remedy="run `hack/cluster images`")
    with tempfile.TemporaryDirectory(dir=state.containerd) as folder:
        layout = Path(folder)
        target = layout / "blobs" / "sha256"
        target.mkdir(parents=True)
        present = _link_blobs(blobs_folder(state), target)
        # Not `buildah push`, as that compresses every layer anew whatever it is told.
        run(
            [
                "skopeo",
                "copy",
                "--quiet",
                "--dest-oci-accept-uncompressed-layers",
                f"containers-storage:{image}",
                f"oci:{layout}:{image}",
            ]
        )
        index = json.loads((layout / "index.json").read_text())
        if loaded_images(state).get(image) == index["manifests"][0]["digest"]:
            return False
        _import(state, layout, [blob for blob in target.iterdir() if blob.name not in present])
    return True


def _link_blobs(source: Path, target: Path) -> set[str]:
    if not source.is_dir():
        return set()
    names = set()
    for blob in source.iterdir():
        os.link(blob, target / blob.name)
        names.add(blob.name)
    return names


def _import(state: StateFolder, layout: Path, blobs: Iterable[Path]) -> None:
    """Stream the layout, with only these blobs, into `ctr images import`."""
    importer = subprocess.Popen(
        ctr(state, "images", "import", "-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        with tarfile.open(fileobj=importer.stdin, mode="w|") as archive:
            for path in (layout / "oci-layout", layout / "index.json", *blobs):
                archive.add(path, arcname=str(path.relative_to(layout)))
    except BrokenPipeError:
        pass  # its own message, read below, says why
    _, complaint = importer.communicate()
    if importer.returncode:
        raise StepError(f"ctr images import: {complaint.decode(errors='replace').strip()}")
