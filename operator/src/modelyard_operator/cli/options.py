"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from modelyard_operator.cli.cluster import Connect, connect


class Output(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class DataOutput(StrEnum):
    """How a command prints that only has data."""

    YAML = "yaml"
    JSON = "json"


class TextOutput(StrEnum):
    """How a command prints that has no use for YAML."""

    TEXT = "text"
    JSON = "json"


Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; that of the context where left out.")
]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="The kubeconfig; as kubectl finds it where left out.", exists=True, dir_okay=False)
]
Context = Annotated[str | None, typer.Option(help="The context in the kubeconfig; its current one where left out.")]
TextOrJson = Annotated[TextOutput, typer.Option("--output", "-o", help="text for people, json for programs.")]


def connector(context: typer.Context) -> Connect:
    """The way to the cluster: a real one, unless the caller of the app put another into `obj`."""
    given: Connect | None = context.obj
    return given or connect
