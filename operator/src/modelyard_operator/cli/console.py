"""Tables and texts on standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelyard_operator.cli.options import Output

_WIDE = 1000
"""Columns where nobody looks at the lines: programs read them, and folding would break them."""


def console() -> Console:
    """Standard output: folded to the terminal's width, never folded in a pipe."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table as kubectl prints them; without its first line where all headings are empty."""
    shown = any(headings)
    drawn = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold", show_header=shown)
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return drawn


def truth(status: str, *, bad: str = "False") -> Text:
    """True, False or Unknown, coloured by whether it is `bad`."""
    if status not in ("True", "False"):
        return Text(status, style="yellow")
    return Text(status, style="red" if status == bad else "green")


def print_data(data: Any, output: Output) -> None:
    """`data` as JSON or YAML."""
    if output is Output.JSON:
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    else:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    sys.stdout.write(text)


def age(since: datetime | None, now: datetime) -> str:
    """How long ago in kubectl's manner: the largest unit that gives two digits, down to seconds."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
