"""Tiny models, made once for all tests."""

from pathlib import Path

import pytest
from tests.unit.serving.tiny import write_model


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 without chat template."""
    return write_model(tmp_path_factory.mktemp("models") / "gpt2", "gpt2", chat=False)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with chat template."""
    return write_model(tmp_path_factory.mktemp("models") / "llama", "llama")
