"""`modelyard get`: the services and where they stand."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from modelyard_operator.cli.cluster import Connect
from modelyard_operator.cli.console import age, console, print_data, table, truth
from modelyard_operator.cli.failure import note, run_async
from modelyard_operator.cli.options import Context, Kubeconfig, Namespace, Output, connector
from modelyard_operator.cli.services import Service, find_service, list_services

EXAMPLES = """
Examples:
  modelyard get                       services of the context's namespace
  modelyard get -A                    of all namespaces
  modelyard get smollm2 -n team-a     one of them
  modelyard get -A -o json            for programs
"""


def get(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One service; all where left out.")] = None,
    namespace: Namespace = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List ModelServices: ready or why not, replicas, revision, address, age."""
    if name is not None and all_namespaces:
        raise typer.BadParameter("a NAME is looked for in one namespace: leave out -A, or the name")
    if namespace is not None and all_namespaces:
        raise typer.BadParameter("-n and -A exclude each other: leave out one of them")
    scope = "" if all_namespaces else namespace
    run_async(_get(connector(ctx), name, scope, output, kubeconfig, context))


async def _get(
    connect: Connect, name: str | None, scope: str | None, output: Output, kubeconfig: Path | None, context: str | None
) -> None:
    """`scope`: a namespace; None for that of the context; empty for all."""
    async with connect(kubeconfig, context) as cluster:
        namespace = cluster.namespace if scope is None else scope
        if name is not None:
            services = [await find_service(cluster, name, namespace)]
        else:
            services = await list_services(cluster, namespace or None)
    if output is not Output.TABLE:
        print_data(_document(services, single=name is not None), output)
    elif services:
        _print_table(services, with_namespace=scope == "", now=datetime.now(UTC))
    else:
        where = f"in namespace {namespace!r}" if namespace else "in any namespace"
        note(f"There are no ModelServices {where}.")


def _document(services: list[Service], *, single: bool) -> dict[str, Any]:
    """The object itself, or a List of them: what `kubectl get -o json` prints."""
    if single:
        return services[0].manifest
    return {"apiVersion": "v1", "kind": "List", "items": [each.manifest for each in services]}


def _print_table(services: list[Service], *, with_namespace: bool, now: datetime) -> None:
    headings = ["NAME", "READY", "REASON", "REPLICAS", "REVISION", "URL", "AGE"]
    rows: list[list[str | Text]] = []
    for each in services:
        ready, status = each.ready, each.status
        cells: list[str | Text] = [
            each.name,
            truth(ready.status if ready else "Unknown"),
            ready.reason if ready else "-",
            f"{status.replicas}/{status.desired_replicas}",
            status.active_revision or "-",
            status.url or "-",
            age(each.created, now),
        ]
        rows.append([each.namespace, *cells] if with_namespace else cells)
    console().print(table(["NAMESPACE", *headings] if with_namespace else headings, rows))
