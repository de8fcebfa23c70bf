"""`make bench-image`: jpegs in, labels out, per second; ours, LitServe's and plain FastAPI's on the same cores."""

import argparse
import asyncio
import json
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median

from bench.image.load import Round, Target, photographs, wave
from bench.processes import LOOPBACK, free_port, process, replica
from bench.venvs import Install, environment

LITSERVE = "0.2.19"
SIDES = ("ours", "litserve", "fastapi")
SERVICE = "bench/pictures"
PICTURES = 16

Results = dict[str, dict[int, list[Round]]]


def litserve_environment(uv: Path) -> Path:
    """LitServe beside the torch, transformers and FastAPI of the environment that this runs in."""

    def fill(home: Path, install: Install) -> None:
        install("--no-deps", f"litserve=={LITSERVE}", "pyzmq>=22", "uvloop", "httptools")
        (packages,) = home.glob("lib/python*/site-packages")
        (packages / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")

    return environment(f"litserve-{LITSERVE}", uv, fill)


def write_resnet(folder: Path) -> Path:
    """ResNet-50 with random weights as transformers saves it."""
    import torch
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(1)
    ResNetForImageClassification(ResNetConfig(num_labels=1000)).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 224}, crop_pct=0.875).save_pretrained(folder)
    return folder


@contextmanager
def servers(model: Path, litserve: Path, logs: Path) -> Iterator[dict[str, Target]]:
    """All three with the model; only one has work at a time, and a server without requests takes no processor."""
    with ExitStack() as stack:
        ours = stack.enter_context(replica(model, SERVICE, logs / "ours.log"))
        targets = {"ours": Target(f"{ours}/classify")}
        for side, python in (("litserve", litserve / "bin" / "python"), ("fastapi", Path(sys.executable))):
            port = free_port()
            command = [str(python), "-m", f"bench.image.{side}_server", str(port), str(model)]
            url = f"http://{LOOPBACK}:{port}"
            stack.enter_context(process(command, dict(os.environ), logs / f"{side}.log", f"{url}/health"))
            targets[side] = Target(f"{url}/classify", in_json=side == "litserve")
        yield targets


async def measure(targets: dict[str, Target], clients: list[int], *, rounds: int, pictures: int) -> Results:
    """Alternating rounds; the first of each is for warming up and does not count."""
    results: Results = {side: {count: [] for count in clients} for side in SIDES}
    files = photographs(PICTURES)
    for number in range(-1, rounds):
        for count in clients:
            for side in SIDES if number % 2 else SIDES[::-1]:
                seen = await wave(targets[side], files, count, max(1, pictures // count))
                if number >= 0:
                    results[side][count].append(seen)
                    print(f"  round {number + 1}, {count} at once, {side}: {seen.pictures_per_s:.1f} pictures/s, "
                          f"answer {seen.answer_s * 1000:.0f} ms", file=sys.stderr)  # fmt: skip
    return results


def report(name: str, results: Results) -> tuple[list[str], float]:
    """The rows of a model, medians of the rounds, and the worst row's ratio to the best peer."""
    rows, ratios = [], []
    for count in results["ours"]:
        speed = {side: median(each.pictures_per_s for each in results[side][count]) for side in SIDES}
        answer = {side: median(each.answer_s for each in results[side][count]) * 1000 for side in SIDES}
        ratios.append(speed["ours"] / max(speed["litserve"], speed["fastapi"]))
        rows.append(
            f"{name:18}   {count:7}   " + "   ".join(f"{speed[side]:8.1f}" for side in SIDES)
            + f"   {ratios[-1]:5.2f}   " + "   ".join(f"{answer[side]:11.0f}" for side in SIDES)
        )  # fmt: skip
    return rows, min(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.image", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=128, help="of each side in each round")
    parser.add_argument("--efficientnet", type=Path, required=True, help="EfficientNet-lite0 of `make models`")
    parser.add_argument("--uv", type=Path, default=Path(".venv/bin/uv"))
    parser.add_argument("--json", type=Path, default=Path("bench/out/image.json"))
    options = parser.parse_args()
    litserve = litserve_environment(options.uv)
    lines = ["model                clients   ours p/s   litserve    fastapi   ratio   "
             "ours ms   litserve ms   fastapi ms"]  # fmt: skip
    seen, worst = {}, []
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as scratch:
        models = {"resnet-50": write_resnet(Path(scratch) / "resnet"), "efficientnet-lite0": options.efficientnet}
        for name, model in models.items():
            with servers(model, litserve, Path(scratch)) as targets:
                results = asyncio.run(
                    measure(targets, options.clients, rounds=options.rounds, pictures=options.pictures)
                )
            rows, ratio = report(name, results)
            lines += rows
            worst.append(ratio)
            seen[name] = {side: {count: [asdict(each) for each in rounds] for count, rounds in by_count.items()}
                          for side, by_count in results.items()}  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"cpus": len(os.sched_getaffinity(0)), "rounds": seen}, indent=1))
    print("\n".join(lines))
    print(f"ratio: {min(worst):.2f}")


if __name__ == "__main__":
    main()
