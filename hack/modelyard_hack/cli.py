"""The command line of `hack/cluster`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from modelyard_hack import cluster, containers, images, processes, tools
from modelyard_hack.accelerators import FakeAccelerators, advertise
from modelyard_hack.access import chosen_access, own_access
from modelyard_hack.control_plane import loopback_apiserver
from modelyard_hack.layout import cluster_state
from modelyard_hack.step import StepError
from modelyard_hack.volumes import bind_volume

# These take whatever follows as it is, so argparse must not read it.
PASSED_THROUGH = ("kubectl", "helm", "exec")


def _become(command: Sequence[str]) -> NoReturn:
    """Replace this process by the command, with the chosen cluster's KUBECONFIG and our tools on PATH."""
    access = chosen_access(os.environ)
    if access.namespaced and not cluster_state().kubeconfig.exists():
        raise StepError("the cluster is not up", remedy="run `hack/cluster up`, or set KUBECONFIG to use another")
    argv = access.command(*command)
    os.execvpe(argv[0], argv, access.environment(os.environ))


def pass_through(command: str, rest: Sequence[str]) -> NoReturn:
    words = list(rest[1:] if command == "exec" and rest[:1] == ["--"] else rest)
    if command == "exec":
        if not words:
            raise StepError("exec needs a command", remedy="hack/cluster exec -- COMMAND [ARGUMENT...]")
        _become(words)
    tools.ensure_tools([tools.BY_NAME[command]])
    _become([str(tools.bin_folder() / command), *words])


def _up(_: argparse.Namespace) -> int:
    cluster.up(cluster_state())
    return 0


def _down(_: argparse.Namespace) -> int:
    cluster.down(cluster_state())
    return 0


def _status(_: argparse.Namespace) -> int:
    return 0 if cluster.status(cluster_state()) else 1


def _tools(arguments: argparse.Namespace) -> int:
    unknown = set(arguments.names) - tools.BY_NAME.keys()
    if unknown:
        raise StepError(f"no tool is called {', '.join(unknown)}", remedy=f"choose from {', '.join(tools.BY_NAME)}")
    tools.ensure_tools([tools.BY_NAME[name] for name in arguments.names] or tools.TOOLS)
    print(tools.bin_folder())
    return 0


def _images(arguments: argparse.Namespace) -> int:
    unknown = set(arguments.kinds) - set(images.KINDS)
    if unknown:
        raise StepError(f"no image is called {', '.join(unknown)}", remedy=f"choose from {', '.join(images.KINDS)}")
    names = images.build_images(arguments.kinds or images.KINDS)
    if arguments.registry:
        names = images.push_images(names, registry=arguments.registry, tag=arguments.tag)
    elif processes.running_pid(cluster_state(), "containerd") is not None:
        images.load_images(cluster_state(), names)
    print("\n".join(names))
    return 0


def _load(arguments: argparse.Namespace) -> int:
    images.load_images(cluster_state(), arguments.names)
    return 0


def _tag(arguments: argparse.Namespace) -> int:
    containers.tag(cluster_state(), arguments.name, arguments.another)
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    log = cluster_state().log(arguments.component)
    if not log.exists():
        raise StepError(f"{log} does not exist", remedy="`hack/cluster status` shows what runs")
    os.execvp("tail", ["tail", f"--lines={arguments.lines}", *(["--follow"] if arguments.follow else []), str(log)])


def _env(_: argparse.Namespace) -> int:
    print(f"export KUBECONFIG={shlex.quote(str(cluster_state().kubeconfig))}")
    print(f'export PATH={shlex.quote(str(tools.bin_folder()))}:"$PATH"')
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    return 0 if processes.stop(cluster_state(), arguments.component) else 1


def _start(arguments: argparse.Namespace) -> int:
    cluster.start(cluster_state(), arguments.component)
    return 0


def _apiserver(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with loopback_apiserver(arguments.dir) as kubeconfig:
        print(kubeconfig, flush=True)
        signal.pause()
    return 0


def _fake_gpu(arguments: argparse.Namespace) -> int:
    fake = FakeAccelerators(arguments.resource, arguments.count, arguments.label, arguments.taint)
    advertise(own_access(cluster_state()), fake, present=not arguments.remove)
    return 0


def _volume(arguments: argparse.Namespace) -> int:
    bind_volume(own_access(cluster_state()), namespace=arguments.namespace, claim=arguments.claim, path=arguments.path)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="hack/cluster", description="A real one-node Kubernetes for tests and demos.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[argparse.Namespace], int] | None, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    command("up", _up, "start the cluster, up to a ready KubeRay; repeatable")
    command("down", _down, "stop it and leave no process, mount, namespace or cgroup; images stay")
    command("status", _status, "which daemons run, the node and the pods; exit code 1 when one does not run")
    command("kubectl", None, "run kubectl against the cluster (another one when KUBECONFIG names it)")
    command("helm", None, "run helm, likewise")
    command("exec", None, "run a command in the cluster's network with KUBECONFIG set: exec -- COMMAND...")
    command("env", _env, "print export lines for KUBECONFIG and PATH")
    build = command("tools", _tools, "build the pinned programs that are missing; prints the folder of their links")
    build.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(tools.BY_NAME)}")
    project = command("images", _images, "build the project's images and load them into the node, or push them")
    project.add_argument("kinds", nargs="*", metavar="KIND", help=f"only these of {', '.join(images.KINDS)}")
    project.add_argument("--registry", help="push to this registry (host and path) instead of loading")
    project.add_argument("--tag", default="dev", help="tag for --registry (default: dev)")
    load = command("load", _load, "bring locally built images into the node")
    load.add_argument("names", nargs="+", metavar="IMAGE")
    tag = command("tag", _tag, "give an image of the node another name, to stand for another release")
    tag.add_argument("name", metavar="IMAGE")
    tag.add_argument("another", metavar="NAME")
    logs = command("logs", _logs, "the end of a daemon's log")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--lines", type=int, default=100)
    for sub in (
        logs,
        command("stop", _stop, "stop one daemon, for fault tests"),
        command("start", _start, "start one daemon again"),
    ):
        sub.add_argument(
            "component",
            choices=cluster.COMPONENTS,
            metavar="COMPONENT",
            help=f"one of {', '.join(cluster.COMPONENTS)}",
        )
    alone = command(
        "apiserver",
        _apiserver,
        "run only etcd and kube-apiserver on loopback until interrupted; prints the kubeconfig",
    )
    alone.add_argument("--dir", type=Path, required=True, help="folder for state and logs")
    gpu = command("fake-gpu", _fake_gpu, "let the node claim to have accelerators")
    gpu.add_argument("--resource", default="nvidia.com/gpu")
    gpu.add_argument("--count", type=int, default=1)
    gpu.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    gpu.add_argument("--taint", action="append", default=[], metavar="KEY=VALUE:EFFECT")
    gpu.add_argument("--remove", action="store_true", help="take the same resource, labels and taints away")
    volume = command("volume", _volume, "bind a claim in a namespace to a folder of this machine, read-only")
    volume.add_argument("--namespace", required=True)
    volume.add_argument("--claim", default="models")
    volume.add_argument("--path", type=Path, required=True)
    return top


def main() -> int:
    """Run one command; returns its exit code."""
    words = sys.argv[1:]
    try:
        if words and words[0] in PASSED_THROUGH and words[1:2] not in (["-h"], ["--help"]):
            pass_through(words[0], words[1:])
        arguments = parser().parse_args(words)
        return int(arguments.action(arguments))
    except StepError as failure:
        print(failure.explain(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
