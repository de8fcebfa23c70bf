"""The command `modelyard` and its subcommands."""

import logging

import typer

from modelyard_operator.cli import definitions, get, inspection, package, run, service_logs, service_status, version
from modelyard_operator.cli.failure import EXIT_CODES

app = typer.Typer(
    name="modelyard",
    help="Serve models on Kubernetes, and on this machine, from the same manifest.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _epilog(examples: str) -> str:
    r"""Examples and exit codes; `\b` keeps click from folding the examples into one paragraph."""
    return f"\b\n{examples.strip()}\n\n{EXIT_CODES}"


app.command(epilog=_epilog(get.EXAMPLES))(get.get)
app.command(epilog=_epilog(service_status.EXAMPLES))(service_status.status)
app.command(epilog=_epilog(service_logs.EXAMPLES))(service_logs.logs)
app.command(epilog=_epilog(definitions.EXAMPLES))(definitions.crds)
app.command(epilog=_epilog(run.EXAMPLES))(run.run)
app.command(epilog=_epilog(package.EXAMPLES))(package.package)
app.command(epilog=_epilog(inspection.EXAMPLES))(inspection.inspect)
app.command(epilog=_epilog(version.EXAMPLES))(version.version)


def main() -> None:
    """The entry point of the installed command."""
    logging.getLogger("kubernetes").setLevel(logging.CRITICAL)  # What it warns of, the commands say better.
    app()
