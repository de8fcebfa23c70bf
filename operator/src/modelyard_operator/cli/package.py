"""`modelyard package`: a model package from an exported program or a folder of transformers."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from modelyard_operator.cli.console import console
from modelyard_operator.cli.failure import CliFailure, ExitCode, report
from modelyard_operator.cli.inspection import describe
from modelyard_serving.packaging import PackagingFailure, TorchMissing, make_package

EXAMPLES = """
Examples:
  modelyard package digits.pt2 --to models/digits --licence Apache-2.0      a program of torch.export.save
  modelyard package minilm --to models/minilm          a folder of transformers; pytorch_model.bin is converted
  modelyard package models/minilm --to models/minilm   only modelyard.yaml, beside the files
  modelyard package digits.pt2 --to models/digits --about about.yaml        signature, labels, metrics... from a file
"""


def package(
    source: Annotated[Path, typer.Argument(help="A .pt2 file, or a folder with config.json and weights.")],
    to: Annotated[Path, typer.Option(help="The folder to make; the source itself to describe it in place.")],
    task: Annotated[str | None, typer.Option(help="The task; found in the model's files where left out.")] = None,
    licence: Annotated[str | None, typer.Option(help="Its licence, as an SPDX expression.")] = None,
    about: Annotated[
        Path | None,
        typer.Option(help="YAML with more fields of modelyard.yaml: signature, labels, metrics...", dir_okay=False),
    ] = None,
) -> None:
    """Make a model package: weights that are safe to load, checksums, and what the model is."""
    fields = _fields(about) | {name: text for name, text in (("task", task), ("licence", licence)) if text}
    try:
        described = make_package(source.expanduser(), to.expanduser(), fields)
    except PackagingFailure as failure:
        report(CliFailure(str(failure)))
        raise typer.Exit(ExitCode.FAILED) from None
    except TorchMissing as missing:
        report(CliFailure(f"{missing}, and it is not installed.", "Install it: pip install 'modelyard[serving]'"))
        raise typer.Exit(ExitCode.FAILED) from None
    console().print(describe(described))


def _fields(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        fields = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {' '.join(str(error).split())}", param_hint="--about") from error
    if not isinstance(fields, dict) or {"format", "files"} & fields.keys():
        text = f"{file}: must be an object with fields of modelyard.yaml, without format and files"
        raise typer.BadParameter(text, param_hint="--about")
    return fields
