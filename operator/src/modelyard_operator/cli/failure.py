"""What a command says when it cannot do its work: a sentence and a hint, never a traceback."""

import asyncio
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any

import typer
from rich.console import Console

from modelyard_operator.kube.errors import Forbidden, Invalid, KindAbsent, KubeError, Unavailable


class ExitCode(IntEnum):
    """How a command ends; typer itself ends with 2 on wrong usage."""

    OK = 0
    FAILED = 1
    NOT_READY = 3
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 done; 1 failed (no cluster, forbidden, not found...); 2 wrong usage; "
    "3 the service is there but not Ready (`status`); 130 stopped with Ctrl-C."
)


class CliFailure(Exception):
    """A command cannot do what it was asked for."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def run_async(work: Coroutine[Any, Any, ExitCode | None]) -> None:
    """Run a command's work and leave with its exit code; failures go to standard error."""
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except CliFailure as failure:
        report(failure)
        raise typer.Exit(ExitCode.FAILED) from None
    except KubeError as error:
        report(explained(error))
        raise typer.Exit(ExitCode.FAILED) from None
    raise typer.Exit(code or ExitCode.OK)


def note(text: str) -> None:
    """Print what is worth knowing beside the output."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)


def report(failure: CliFailure) -> None:
    """Print what went wrong and what to do."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"Error: {failure.message}", style="red", markup=False)
    if failure.hint:
        console.print(failure.hint, markup=False)


def explained(error: KubeError) -> CliFailure:
    """The failure that an error of the API server means to a user of the CLI."""
    text = str(error)
    if isinstance(error, KindAbsent):
        return CliFailure(
            f"This cluster does not know Modelyard's kinds: {text}",
            "Install them: `modelyard crds | kubectl apply --server-side -f -`, or the chart modelyard-crds.",
        )
    if isinstance(error, Forbidden):
        return CliFailure(
            f"The cluster does not allow it: {text}",
            "Ask for a role with the verbs that the message names; `kubectl auth can-i --list` shows yours.",
        )
    if isinstance(error, Unavailable):
        return CliFailure(
            f"The cluster does not answer: {text}",
            "`kubectl cluster-info` shows the address in use; --context and --kubeconfig choose another.",
        )
    if isinstance(error, Invalid):
        return CliFailure(f"The cluster refuses the request: {text}")
    return CliFailure(text)
