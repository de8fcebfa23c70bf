"""`make bench-speech`: Whisper tiny.en on ten clips, ours beside transformers' pipeline and faster-whisper."""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.speech.clips import Clip, clips
from bench.speech.sides import Side, all_sides
from bench.speech.words import wrong_words


@dataclass(frozen=True)
class Round:
    """One side wrote down all clips, one after the other."""

    seconds: float
    of_clips: list[float]
    texts: list[str]


def listen(side: Side, given: list[Clip]) -> Round:
    """Seconds from the file to the text, for each clip."""
    times, texts = [], []
    for clip in given:
        began = time.monotonic()
        texts.append(side(clip.file))
        times.append(time.monotonic() - began)
    return Round(sum(times), times, texts)


def measure(sides: dict[str, Side], given: list[Clip], rounds: int) -> dict[str, list[Round]]:
    """Alternating rounds after one that does not count: in each, all sides, in another order."""
    results: dict[str, list[Round]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(-1, rounds):
        turn = (number + 1) % len(names)
        for name in names[turn:] + names[:turn]:
            seen = listen(sides[name], given)
            if number >= 0:
                results[name].append(seen)
                print(f"  round {number + 1}, {name}: {seen.seconds:.2f} s", file=sys.stderr)
    return results


def report(results: dict[str, list[Round]], given: list[Clip]) -> tuple[str, float]:
    """The table of medians, and our speed by the best peer's."""
    audio = sum(clip.seconds for clip in given)
    lines = [f"{'':24}  times real time   seconds of {audio:.0f}   wrong words"]
    speeds = {}
    for name, rounds in results.items():
        seconds = median(each.seconds for each in rounds)
        speeds[name] = audio / seconds
        wrong = [wrong_words(clip.said, text) for clip, text in zip(given, rounds[-1].texts, strict=True)]
        share = sum(errors for errors, _ in wrong) / sum(words for _, words in wrong)
        lines.append(f"{name:24}  {speeds[name]:15.1f}   {seconds:13.2f}   {share:11.1%}")
    best = max(speed for name, speed in speeds.items() if name != "ours")
    return "\n".join(lines), speeds["ours"] / best


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.speech", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, required=True, help="Whisper tiny.en as `make models` leaves it")
    parser.add_argument("--uv", type=Path, default=Path(".venv/bin/uv"))
    parser.add_argument("--json", type=Path, default=Path("bench/out/speech.json"))
    options = parser.parse_args()
    given = clips()
    with (
        tempfile.TemporaryDirectory(prefix="modelyard-bench-") as logs,
        all_sides(options.model, Path(logs), options.uv) as sides,
    ):
        results = measure(sides, given, options.rounds)
    text, ratio = report(results, given)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({
        "cpus": len(os.sched_getaffinity(0)), "clips": [{"said": clip.said, "seconds": clip.seconds} for clip in given],
        "rounds": {name: [asdict(each) for each in rounds] for name, rounds in results.items()},
    }, indent=1))  # fmt: skip
    print(text)
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
