"""A revision that cannot serve: the old one goes on, the reason is told, a correction is enough."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from e2e.traffic import Load, post

if TYPE_CHECKING:
    from e2e.conftest import Maker

BODY = {"prompt": "The", "max_tokens": 2, "temperature": 0}


@pytest.mark.timeout(600)
def test_the_old_revision_goes_on(make: "Maker", models_folder: Path) -> None:
    broken = models_folder / "gpt2-broken"
    shutil.copytree(models_folder / "gpt2-small", broken, dirs_exist_ok=True)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    service = make("bad")
    try:
        service.wait(within=300)
        first = service.status["activeRevision"]
        with Load(make.url(service), {**BODY, "model": service.model}) as load:
            service.patch(model={"source": {"uri": "pvc://models/no-such-model"}})
            told = service.wait_reason("Degraded", "ModelNotFound")
            assert "no-such-model" in told["message"]
            assert service.status["activeRevision"] == first
            service.patch(model={"source": {"uri": "pvc://models/gpt2-broken"}})
            told = service.wait_reason("Degraded", "ModelInvalid", within=180)
            assert "model.safetensors" in told["message"]
            assert service.status["activeRevision"] == first
        assert load.failures == []
        assert service.condition("Available")["status"] == "True"
        # The fix: the same revision, its weights made whole. It is tried again without help.
        shutil.copy(models_folder / "gpt2-small/model.safetensors", weights)
        status = service.settled(within=240)
        assert status["activeRevision"] != first
        assert post(make.url(service), {**BODY, "model": service.model})[0] == 200
    finally:
        shutil.rmtree(broken, ignore_errors=True)


@pytest.mark.timeout(300)
def test_too_large_for_its_memory(make: "Maker", models_folder: Path) -> None:
    """Weights that no worker of the shape can hold are refused with numbers before they are read."""
    folder = models_folder / "gpt2-huge"
    shutil.copytree(models_folder / "gpt2-small", folder, dirs_exist_ok=True)
    weights = folder / "model.safetensors"
    _claim_size(weights, gigabytes=6)
    service = make("huge", uri="pvc://models/gpt2-huge")
    try:
        told = service.wait_reason("Degraded", "ModelTooLarge", within=180)
        assert "2048Mi" in told["message"]
        assert "spec.resources.memory" in told["message"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _claim_size(path: Path, *, gigabytes: int) -> None:
    """Make a valid safetensors file with one more tensor of so many GB; the file is sparse."""
    import json

    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    data = raw[8 + length :]
    size = gigabytes * 10**9
    header["extra"] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [len(data), len(data) + size]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)
        file.truncate(8 + len(text) + len(data) + size)
