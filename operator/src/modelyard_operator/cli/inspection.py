"""`modelyard inspect`: what a model package says of itself, and whether its files are those that it says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from modelyard_operator.cli.console import console, print_data, table
from modelyard_operator.cli.failure import CliFailure, ExitCode, report
from modelyard_operator.cli.options import Output, TextOrJson, TextOutput
from modelyard_serving.package.description import PackageDescription, TensorSpec
from modelyard_serving.package.folder import DESCRIPTION_FILE, InvalidPackage, check_files, read_description

EXAMPLES = """
Examples:
  modelyard inspect models/digits
  modelyard inspect models/digits -o json | jq .signature.inputs
"""
SHOWN_LABELS = 5


def inspect(
    folder: Annotated[Path, typer.Argument(help="The folder of a model package.", file_okay=False)],
    output: TextOrJson = TextOutput.TEXT,
) -> None:
    """Print what a model package is, and fail where a file is not the packaged one."""
    folder = folder.expanduser()
    try:
        described = read_description(folder)
    except InvalidPackage as error:
        report(CliFailure(f"{folder}: {error}"))
        raise typer.Exit(ExitCode.FAILED) from None
    if described is None:
        text = f"{folder} has no {DESCRIPTION_FILE}." if folder.is_dir() else f"There is no {folder}."
        report(CliFailure(text, "`modelyard package` writes one."))
        raise typer.Exit(ExitCode.FAILED)
    try:
        check_files(folder, described)
        wrong = ""
    except InvalidPackage as error:
        wrong = str(error)
    if output is TextOutput.JSON:
        print_data(described.model_dump(mode="json", exclude_none=True) | {"wrong": wrong or None}, Output.JSON)
    else:
        console().print(describe(described, checked="" if wrong else ", all as packaged"))
    if wrong:
        report(CliFailure(f"{folder}: {wrong}"))
        raise typer.Exit(ExitCode.FAILED)


def describe(described: PackageDescription, *, checked: str = "") -> Table:
    """A package as a table; `checked` is what is known of its files."""
    size = sum(file.bytes for file in described.files.values())
    count = len(described.files)
    rows = [
        ("Task", str(described.task)),
        ("Weights", f"exported program {described.program}" if described.program else "transformers, safetensors"),
        ("Files", f"{count} file{'' if count == 1 else 's'}, {size / 2**20:,.1f} MiB{checked}"),
    ]
    if described.signature is not None:
        rows += [("Input", _tensor(spec)) for spec in described.signature.inputs]
        rows += [("Output", _tensor(spec)) for spec in described.signature.outputs]
        joined = f"joined along {described.signature.batch}" if described.signature.batch else "one by one"
        rows.append(("Requests", joined))
    return table(("", ""), [*rows, *_known(described)])


def _known(described: PackageDescription) -> Iterator[tuple[str, str]]:
    if described.labels:
        more = ", ..." if len(described.labels) > SHOWN_LABELS else ""
        yield "Labels", f"{len(described.labels)}: {', '.join(described.labels[:SHOWN_LABELS])}{more}"
    for metric in described.metrics:
        on = " ".join(part for part in (metric.dataset, metric.split) if part)
        yield "Metric", f"{metric.name} {metric.value:g}" + (f" on {on}" if on else "")
    provenance = described.provenance
    if provenance.source:
        yield "Source", provenance.source
    if provenance.created:
        yield "Created", provenance.created.isoformat()
    if provenance.made_with:
        yield "Made with", ", ".join(f"{name} {version}" for name, version in provenance.made_with.items())
    yield "Licence", described.licence or "not said"


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.dtype} [{', '.join(map(str, spec.shape))}]"
