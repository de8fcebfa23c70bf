"""`make bench-operator`: how the operator grows with the number of services."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.operator.measurements import (
    Changed,
    Converged,
    Restarted,
    Rested,
    change_model,
    change_settings,
    converge,
    rest,
    restart,
)
from bench.operator.peer import Peer, peer, ray_clusters
from bench.operator.report import rest_log, summary, table
from bench.operator.scene import Size, scene

from modelyard_hack.addons import kuberay_manifests
from modelyard_hack.tools import BY_NAME, CONTROL_PLANE, ensure_tools

INSIDE = "MODELYARD_BENCH_INSIDE"


@dataclass(frozen=True)
class Run:
    """All that was measured with one size."""

    size: Size
    converged: Converged
    settings: Changed
    model: Changed
    rested: Rested
    restarted: Restarted
    peer: Peer


async def run(size: Size, options: argparse.Namespace) -> Run:
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        async with scene(size, Path(folder)) as here:
            say(f"{size.services} services on {size.clusters} clusters")
            converged = await converge(here)
            say(f"  converged in {converged.seconds:.1f} s")
            rested = await rest(here, options.rest)
            say(f"  at rest: {len(rested.written)} writes {rested.written[:5]}, {rested.cpu_pct:.1f} % of a core")
            settings = await change_settings(here, min(options.changes, size.services))
            say(f"  settings changed, p99 {settings.percentile(0.99):.0f} ms")
            model = await change_model(here, min(options.rollouts, size.services))
            say(f"  models changed, p99 {model.percentile(0.99):.0f} ms")
            restarted = await restart(here)
            say(f"  restarted in {restarted.seconds:.1f} s")
            manifests = await ray_clusters(here.api)
    kuberay = await peer(manifests, options.rest)
    say(f"  KubeRay's operator: {len(manifests)} RayClusters with {kuberay.pods} pods in {kuberay.seconds:.1f} s")
    return Run(size, converged, settings, model, rested, restarted, kuberay)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def clusters_for(services: int) -> int:
    """Fifty services on each, and 1 to 100 of them."""
    return max(1, min(100, services // 50))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.operator", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 5000], help="numbers of services")
    parser.add_argument("--clusters", type=int, help="ServingClusters (one for 50 services, at most 100)")
    parser.add_argument("--rest", type=float, default=30, help="seconds at rest")
    parser.add_argument("--changes", type=int, default=30, help="changes of settings")
    parser.add_argument("--rollouts", type=int, default=5, help="changes of models")
    parser.add_argument("--json", type=Path, default=Path("bench/out/operator.json"), help="all figures")
    return parser.parse_args()


def enclose() -> None:
    """Go on in a network namespace of our own: the fake Ray needs its real ports on thousands of addresses."""
    if os.environ.get(INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    ensure_tools((*CONTROL_PLANE, BY_NAME["kuberay-operator"], BY_NAME["helm"]))
    kuberay_manifests()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", *user, "--net", "--", sys.executable, "-m", "bench.operator", *sys.argv[1:]])


def main() -> int:
    """Run all sizes; the last line is the summary."""
    chosen = options()
    enclose()
    runs = [asyncio.run(run(Size(n, chosen.clusters or clusters_for(n)), chosen)) for n in chosen.sizes]
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps([asdict(each) for each in runs], indent=1))
    print(table(runs))
    for each in runs:
        print(rest_log(each))
    print(summary(next((each for each in runs if each.size.services == 1000), runs[-1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
