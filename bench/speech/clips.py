"""Ten clips of speech with what was said, from Debian's test data of PocketSphinx (BSD; LibriVox: public domain)."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from modelyard_hack.layout import cache_folder

PACKAGE = "pocketsphinx-testdata"
BOOK = "librivox/sense_and_sensibility_01_austen_64kb-{}.wav"
SENTENCES = {
    "0870": "and mister john dashwood had then leisure to consider how much there might be prudently in his power to "
            "do for them",
    "0880": "he was not an ill disposed young man",
    "0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "0920": "had he married a more amiable woman he might have been made still more respectable than he was",
    "0930": "he might even have been made amiable himself",
}  # fmt: skip
CARDS = {"001": "ten of clubs", "005": "eight of spades four of clubs seven of hearts"}


@dataclass(frozen=True)
class Clip:
    """A wav file and the words that it has."""

    file: Path
    said: str
    seconds: float


def clips() -> list[Clip]:
    """From one second to more than a minute."""
    home = cache_folder() / "clips"
    with tempfile.TemporaryDirectory(prefix="modelyard-clips-") as scratch:
        data = home / "usr" / "share" / "pocketsphinx" / "test" / "data"
        if not data.exists():
            subprocess.run(["apt-get", "download", PACKAGE], cwd=scratch, check=True)
            (package,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg-deb", "--extract", str(package), str(home)], check=True)
    short = {name: (BOOK.format(name), said) for name, said in SENTENCES.items()}
    short |= {name: (f"cards/{name}.wav", said) for name, said in CARDS.items()}
    passage = list(SENTENCES)
    wanted = {name: [name] for name in short} | {"two": passage[1:3], "passage": passage, "long": passage * 3}
    made = []
    for name, parts in wanted.items():
        samples = np.concatenate([soundfile.read(data / short[part][0], dtype="int16")[0] for part in parts])
        file = home / f"{name}.wav"
        soundfile.write(file, samples, 16_000)
        made.append(Clip(file, " ".join(short[part][1] for part in parts), len(samples) / 16_000))
    return made
