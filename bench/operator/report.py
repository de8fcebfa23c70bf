"""What the bench prints."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.operator.measured import WRITES

if TYPE_CHECKING:
    from bench.operator.__main__ import Run

Figure = Callable[["Run"], float]

ROWS: tuple[tuple[str, Figure], ...] = (
    ("converge, s", lambda run: run.converged.seconds),
    ("  API requests per service", lambda run: run.converged.requests / run.size.services),
    ("  Serve PUTs", lambda run: run.converged.puts),
    ("  proofs asked", lambda run: run.converged.proofs),
    ("  CPU, s", lambda run: run.converged.cpu_s),
    ("  peak memory, MB", lambda run: run.converged.peak_rss_mb),
    ("settings changed to last write, p50 ms", lambda run: run.settings.percentile(0.5)),
    ("  p99 ms", lambda run: run.settings.percentile(0.99)),
    ("  API requests per change", lambda run: run.settings.requests),
    ("model changed to switch, p50 ms", lambda run: run.model.percentile(0.5)),
    ("  p99 ms", lambda run: run.model.percentile(0.99)),
    ("  API requests per change", lambda run: run.model.requests),
    ("rest: writes", lambda run: len(run.rested.written)),
    ("  API requests per s", lambda run: sum(run.rested.asked.values()) / run.rested.seconds),
    ("  CPU, % of a core", lambda run: run.rested.cpu_pct),
    ("  memory, MB", lambda run: run.rested.rss_mb),
    ("restart: until all loops looked, s", lambda run: run.restarted.seconds),
    ("  CPU, s", lambda run: run.restarted.cpu_s),
    ("  API requests", lambda run: run.restarted.requests),
    ("  writes", lambda run: run.restarted.writes),
    ("  peak memory, MB", lambda run: run.restarted.peak_rss_mb),
    ("KubeRay's operator, the same RayClusters: pods", lambda run: run.peer.pods),
    ("  until all are ready, s", lambda run: run.peer.seconds),
    ("  CPU, s", lambda run: run.peer.cpu_s),
    ("  peak memory, MB", lambda run: run.peer.peak_rss_mb),
    ("  rest: CPU, % of a core", lambda run: run.peer.rest_cpu_pct),
)


def table(runs: Sequence["Run"]) -> str:
    """A row for each figure; behind each size but the first, the factor for each doubling since the one before."""
    head = ["", *(f"{run.size.services} on {run.size.clusters}" for run in runs)]
    lines = [head, *([name, *_cells(runs, figure)] for name, figure in ROWS)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(row))
        for row in (zip(line, widths, strict=True) for line in lines)
    )


def _cells(runs: Sequence["Run"], figure: Figure) -> list[str]:
    cells, before = [], None
    for run in runs:
        value, text = figure(run), f"{figure(run):.4g}"
        if before is not None and before[1] > 0 and value > 0 and run.size.services != before[0]:
            doublings = math.log2(run.size.services / before[0])
            text += f" (x{(value / before[1]) ** (1 / doublings):.2f})"
        before = run.size.services, value
        cells.append(text)
    return cells


def rest_log(run: "Run") -> str:
    """What the API server's audit log has of the operator at rest, writes first."""
    rested = run.rested
    asked = sorted(rested.asked.items(), key=lambda each: (each[0].split()[0] not in WRITES, -each[1]))
    told = ", ".join(f"{count} {what}" for what, count in asked)
    return (
        f"audit log, {run.size.services} services, {rested.seconds:.0f} s at rest: {len(rested.written)} writes "
        f"(Lease renewals, one every 3 s, are not logged); all requests: {told}"
    )


def summary(run: "Run") -> str:
    """The line that ends the bench, of one size."""
    return (
        f"summary: converge_{run.size.services}_s={run.converged.seconds:.1f} "
        f"change_p99_ms={run.settings.percentile(0.99):.0f} rest_writes={len(run.rested.written)} "
        f"rest_cpu_pct={run.rested.cpu_pct:.2f} rss_mb={run.rested.rss_mb:.0f}"
    )
