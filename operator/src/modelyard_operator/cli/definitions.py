"""`modelyard crds`: the CustomResourceDefinitions of this release."""

import sys
from typing import Annotated

import typer

from modelyard_operator.api.crd import KINDS, custom_resource_definition
from modelyard_operator.api.generate import generated
from modelyard_operator.cli.console import print_data
from modelyard_operator.cli.options import DataOutput, Output

EXAMPLES = """
Examples:
  modelyard crds | kubectl apply --server-side -f -    install or upgrade them
  modelyard crds | kubectl diff --server-side -f -     what would change
  modelyard crds -o json                               for programs
"""


def crds(
    output: Annotated[DataOutput, typer.Option("--output", "-o", help="yaml or json.")] = DataOutput.YAML,
) -> None:
    """Print the CRDs, generated from the models that this release reads."""
    if output is DataOutput.JSON:
        items = [custom_resource_definition(kind) for kind in KINDS]
        print_data({"apiVersion": "v1", "kind": "List", "items": items}, Output.JSON)
        return
    files = generated()
    sys.stdout.write("---\n".join(text for path, text in sorted(files.items()) if path.startswith("crds/")))
