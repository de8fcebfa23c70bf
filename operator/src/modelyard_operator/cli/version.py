"""`modelyard version`: which release this is."""

import platform
from importlib.metadata import version as installed_version

import typer

from modelyard_operator.api.base import API_VERSION
from modelyard_operator.cli.console import print_data
from modelyard_operator.cli.options import Output, TextOrJson, TextOutput

EXAMPLES = """
Examples:
  modelyard version
  modelyard version -o json
"""


def version(output: TextOrJson = TextOutput.TEXT) -> None:
    """Print the version of this command and of the API that it speaks."""
    facts = {"modelyard": installed_version("modelyard"), "api": API_VERSION, "python": platform.python_version()}
    if output is TextOutput.JSON:
        print_data(facts, Output.JSON)
    else:
        typer.echo(f"modelyard {facts['modelyard']}, API {facts['api']}, Python {facts['python']}")
