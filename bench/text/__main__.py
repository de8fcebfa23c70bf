"""`make bench-text`: SmolLM2's tokens per second and time to the first token, ours and vLLM's on the same cores."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median

from bench.processes import replica
from bench.text.load import NEW_TOKENS, PROMPT_TOKENS, Round, wave
from bench.text.peer import vllm_environment
from bench.text.servers import MODEL, vllm

SIDES = ("ours", "vllm")
WARM_UP = 1
"""Waves of each size before those that count."""

Results = dict[str, dict[int, list[Round]]]


async def measure(urls: dict[str, str], clients: list[int], rounds: int) -> Results:
    """Alternating rounds: in each, for each number of clients, one side and then the other."""
    results: Results = {side: {count: [] for count in clients} for side in SIDES}
    for number in range(-WARM_UP, rounds):
        order = SIDES if number % 2 else SIDES[::-1]
        for count in clients:
            for side in order:
                seen = await wave(urls[side], MODEL, count, seed=1000 * number + count)
                if number >= 0:
                    results[side][count].append(seen)
                    print(f"  round {number + 1}, {count} at once, {side}: {seen.tokens_per_s:.0f} tok/s, "
                          f"first token {seen.first_token_s * 1000:.0f} ms", file=sys.stderr)  # fmt: skip
    return results


def report(results: Results) -> tuple[str, float]:
    """The table of medians, and the worst row's ratio."""
    lines = ["clients   ours tok/s   vllm tok/s   ratio   ours first ms   vllm first ms"]
    ratios = []
    for count in results["ours"]:
        ours, peer = (_medians(results[side][count]) for side in SIDES)
        ratios.append(ours[0] / peer[0])
        lines.append(
            f"{count:7}   {ours[0]:10.0f}   {peer[0]:10.0f}   {ratios[-1]:5.2f}   {ours[1] * 1000:13.0f}   "
            f"{peer[1] * 1000:13.0f}"
        )
    return "\n".join(lines), min(ratios)


def _medians(rounds: list[Round]) -> tuple[float, float]:
    return median(each.tokens_per_s for each in rounds), median(each.first_token_s for each in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.text", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, required=True, help="SmolLM2 as `make models` leaves it")
    parser.add_argument("--uv", type=Path, default=Path(".venv/bin/uv"))
    parser.add_argument("--json", type=Path, default=Path("bench/out/text.json"))
    options = parser.parse_args()
    peer = vllm_environment(options.uv)
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        logs = Path(folder)
        # Both are up all the time, but only one has work at a time: a server without requests takes no processor.
        with (
            vllm(options.model, logs / "vllm.log", peer) as theirs,
            replica(options.model, MODEL, logs / "ours.log") as ours,
        ):
            results = asyncio.run(measure({"ours": ours, "vllm": theirs}, options.clients, options.rounds))
    text, worst = report(results)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({
        "prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, "cpus": len(os.sched_getaffinity(0)),
        "rounds": {side: {count: [asdict(each) for each in rounds] for count, rounds in by_count.items()}
                   for side, by_count in results.items()},
    }, indent=1))  # fmt: skip
    print(text)
    print(f"ratio: {worst:.2f}")


if __name__ == "__main__":
    main()
