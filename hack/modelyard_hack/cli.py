"""The command line of `hack/cluster`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from modelyard_hack import tools
from modelyard_hack.control_plane import loopback_apiserver
from modelyard_hack.step import StepFailed


def _tools(arguments: argparse.Namespace) -> int:
    tools.ensure_tools([tools.BY_NAME[name] for name in arguments.names] or tools.TOOLS)
    print(tools.bin_folder())
    return 0


def _apiserver(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with loopback_apiserver(arguments.dir) as kubeconfig:
        print(kubeconfig, flush=True)
        signal.pause()
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="hack/cluster", description="A real one-node Kubernetes for tests and demos.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    build = command("tools", _tools, "build the pinned programs that are missing and print the folder of their links")
    build.add_argument("names", nargs="*", choices=[*tools.BY_NAME, []], metavar="NAME", help="only these")
    alone = command("apiserver", _apiserver,
                    "run only etcd and kube-apiserver on loopback until interrupted; prints the kubeconfig")
    alone.add_argument("--dir", type=Path, required=True, help="folder for state and logs")
    return top


def main() -> int:
    """Run one command; returns its exit code."""
    arguments = parser().parse_args()
    try:
        return int(arguments.action(arguments))
    except StepFailed as failure:
        print(failure.explain(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
