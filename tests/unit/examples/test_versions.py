"""When an example is built anew."""

from importlib import metadata
from pathlib import Path

import examples.__main__ as command
import pytest


def test_a_package_is_as_old_as_the_code_that_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "REPOSITORY", tmp_path)
    for folder in ("examples/flow", "examples/digits", "examples/other", "serving/src/modelyard_serving/package"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "code.py").write_text("1")
    before = command.version_of("digits")
    (tmp_path / "examples/other/code.py").write_text("2")
    (tmp_path / "examples/digits/README.md").write_text("words")
    assert command.version_of("digits") == before
    found = {before}
    for folder in ("examples/flow", "examples/digits", "serving/src/modelyard_serving/package"):
        (tmp_path / folder / "code.py").write_text("2")
        found.add(command.version_of("digits"))
    monkeypatch.setattr(metadata, "version", lambda _: "another")
    found.add(command.version_of("digits"))
    assert len(found) == 5
