"""The images: those of the node itself (pause, CoreDNS, KubeRay) and those of the project."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard_hack import containers
from modelyard_hack.addons import coredns_image, kuberay_image
from modelyard_hack.containers import Build
from modelyard_hack.layout import REPOSITORY, StateFolder, cache_folder
from modelyard_hack.node import PAUSE_IMAGE
from modelyard_hack.step import StepError, run, step
from modelyard_hack.tools import exclusive, tool_path

HACK_IMAGES = REPOSITORY / "hack" / "images"
BASE_SUITE = "bookworm"
BASE_IMAGE = f"localhost/debian-python:{BASE_SUITE}"
KINDS = ("operator", "gateway", "serving", "redis")
SOURCE_LABEL = "dev.modelyard.source"


@dataclass(frozen=True)
class ProjectImage:
    """One of the images that ship: its Dockerfile and its requirements, if there are any, are named after it."""

    kind: str

    @property
    def name(self) -> str:
        return f"localhost/modelyard-{self.kind}:dev"

    @property
    def dockerfile(self) -> Path:
        return REPOSITORY / "images" / self.kind / "Dockerfile"

    def inputs(self) -> list[Path]:
        """The files that the dependency layer is made from."""
        requirements = REPOSITORY / "requirements"
        given = [requirements / "bootstrap.txt", requirements / f"{self.kind}.txt"] if self.has_code else []
        return [*given, self.dockerfile]

    @property
    def has_code(self) -> bool:
        """Whether something of ours runs in it."""
        return (REPOSITORY / "requirements" / f"{self.kind}.txt").exists()

    @property
    def dependencies(self) -> str:
        return f"localhost/modelyard-{self.kind}-dependencies:{content_hash(self.inputs())}"


def content_hash(files: Sequence[Path]) -> str:
    """12 hex digits that change with the files' content."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def ensure_base() -> None:
    """A minimal Debian with Python, made by debootstrap from the machine's own package mirror."""
    if containers.built_image(BASE_IMAGE) is not None:
        return
    log = cache_folder() / "debootstrap.log"
    with (
        step(f"make the base image {BASE_IMAGE}", log=log, remedy="apt must know a mirror of Debian bookworm"),
        tempfile.TemporaryDirectory() as folder,
    ):
        mirrors = run(["apt-get", "indextargets", "--format=$(REPO_URI)", f"Codename: {BASE_SUITE}"]).split()
        if not mirrors:
            raise StepError(f"apt knows no mirror of Debian {BASE_SUITE}")
        root = Path(folder) / "root"
        run(
            [
                "debootstrap",
                "--variant=minbase",
                "--include=python3,python3-venv,ca-certificates",
                BASE_SUITE,
                str(root),
                mirrors[0],
            ],
            log=log,
        )
        for waste in (
            "var/cache/apt",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
        ):
            shutil.rmtree(root / waste)
        container = run(["buildah", "from", "scratch"]).strip()
        try:
            run(["buildah", "add", "--quiet", container, str(root), "/"])
            run(["buildah", "config", "--cmd=/bin/bash", container])
            run(["buildah", "commit", "--quiet", container, BASE_IMAGE])
        finally:
            run(["buildah", "rm", container])


def ensure_node_images(state: StateFolder) -> None:
    """Build and load the images that the node itself needs and does not have."""
    loaded = containers.loaded_images(state)
    for name, entry in (
        (PAUSE_IMAGE, "/pause"),
        (coredns_image(), "/coredns"),
        (kuberay_image(), "/manager"),
    ):
        if name in loaded:
            continue
        with tempfile.TemporaryDirectory() as folder:
            context = Path(folder)
            if name == PAUSE_IMAGE:
                _compile_pause(context / "program")
            else:
                tool = "coredns" if name == coredns_image() else "kuberay-operator"
                shutil.copy2(tool_path(tool), context / "program")
            (context / "Dockerfile").write_text(
                f'FROM scratch\nCOPY program {entry}\nUSER 65532:65532\nENTRYPOINT ["{entry}"]\n'
            )
            containers.build(Build(name, context / "Dockerfile", context))
        containers.load(state, name)


def _compile_pause(program: Path) -> None:
    run(["gcc", "-static", "-Os", "-s", "-o", str(program), str(HACK_IMAGES / "pause.c")])


def build_wheel(folder: Path) -> Path:
    """The project's wheel, by the uv of the development environment."""
    uv = REPOSITORY / ".venv" / "bin" / "uv"
    if not uv.exists():
        raise StepError("the development environment is missing", remedy="run `make setup`")
    run([str(uv), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(REPOSITORY)])
    return next(folder.glob("*.whl"))


def build_images(kinds: Sequence[str] = KINDS) -> list[str]:
    """Build the project's images where something changed; returns their names."""
    images = [ProjectImage(kind) for kind in kinds]
    with exclusive("images"), tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        shutil.copytree(REPOSITORY / "requirements", context / "requirements")
        ensure_base()
        with step("build the wheel", remedy="`make setup`, then look at pyproject.toml"):
            wheel = build_wheel(context / "dist")
        for image in images:
            _build_project_image(image, context, wheel)
    return [image.name for image in images]


def _build_project_image(image: ProjectImage, context: Path, wheel: Path) -> None:
    remedy = f"read images/{image.kind}/Dockerfile; the package index must be reachable as pip reaches it"
    arguments = (("BASE", BASE_IMAGE),)
    if containers.built_image(image.dependencies) is None:
        with step(f"build {image.dependencies}", remedy=remedy):
            containers.build(Build(image.dependencies, image.dockerfile, context, "dependencies", arguments))
    source = f"{image.dependencies}/{content_hash([wheel] if image.has_code else [])}"
    if containers.image_label(image.name, SOURCE_LABEL) == source:
        return
    before = containers.built_image(image.name)
    with step(f"build {image.name}", remedy=remedy):
        containers.build(
            Build(
                image.name,
                image.dockerfile,
                context,
                arguments=(("DEPENDENCIES", image.dependencies),),
                labels=((SOURCE_LABEL, source),),
            )
        )
    if before is not None:
        containers.remove_image(before)
    for tag in containers.tags(image.dependencies.rpartition(":")[0]):
        if tag != image.dependencies:
            containers.remove_image(tag)


def load_images(state: StateFolder, names: Sequence[str]) -> None:
    for name in names:
        with step(f"load {name} into the node", log=state.log("containerd"), remedy="`hack/cluster status`"):
            containers.load(state, name)


def push_images(names: Sequence[str], *, registry: str, tag: str) -> list[str]:
    """Push built images to `registry` (host and path) for another cluster; returns their names there."""
    pushed = []
    for name in names:
        target = f"{registry.rstrip('/')}/{name.removeprefix('localhost/').rpartition(':')[0]}:{tag}"
        with step(f"push {target}", remedy="`buildah login` to the registry"):
            run(["buildah", "push", "--quiet", name, f"docker://{target}"])
        pushed.append(target)
    return pushed
