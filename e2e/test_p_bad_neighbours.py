"""Services that misbehave beside a good one: only they suffer, and they heal when their cause is gone."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import replica_processes, until
from e2e.traffic import Load, post

if TYPE_CHECKING:
    from e2e.conftest import Maker, Resident

LONG_CONTEXT = 20_000
"""Positions: attention that writes out its weights takes 10 GB for so many, more than a small worker has."""


@pytest.mark.timeout(900)
@pytest.mark.skipif("MODELYARD_E2E_MODELS" not in os.environ, reason="stops a process of the one-node cluster")
def test_only_they_suffer(make: "Maker", resident: "Resident", models_folder: Path) -> None:
    """One eats all its memory, one never answers, one crashes when it loads; eight clients ask a good one."""
    folder = models_folder / "gpt2-long"
    _with_long_context(models_folder / "gpt2-small", folder)
    eater, silent = make("eater", "pvc://models/gpt2-long"), make("silent")
    try:
        for service in (eater, silent):
            service.wait(within=300)
        with Load(resident.url, resident.body) as load:
            crashing = make("crashing", "pvc://models/no-such-model")
            frozen = replica_processes(silent.model)
            assert frozen
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            long = {"model": eater.model, "prompt": "word " * (LONG_CONTEXT - 100), "max_tokens": 1}
            status, _ = post(make.url(eater), long)
            assert status >= 500
            crashing.wait_reason("Degraded", "ModelNotFound", within=120)
            # Ray Serve finds the frozen replica by its health check and starts another one.
            until("another replica", lambda: replica_processes(silent.model) - frozen, within=150)
            for service in (eater, silent):
                service.wait(within=120)
                status, answer = post(make.url(service), {**resident.body, "model": service.model})
                assert status == 200, answer
        assert load.failures == []
        assert resident.service.condition("Available")["status"] == "True"
        print(f"{load.count} requests, slowest {load.slowest_s:.2f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_long_context(source: Path, target: Path) -> None:
    """A copy of the small GPT-2 with more positions, which repeat those that it has, and plain attention."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target, dirs_exist_ok=True)
    config = json.loads((target / "config.json").read_text())
    config |= {"n_positions": LONG_CONTEXT, "attn_implementation": "eager"}
    (target / "config.json").write_text(json.dumps(config))
    weights = load_file(source / "model.safetensors")
    name = next(key for key in weights if key.endswith("wpe.weight"))
    positions: torch.Tensor = weights[name]
    weights[name] = positions.repeat(-(-LONG_CONTEXT // len(positions)), 1)[:LONG_CONTEXT].contiguous()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)
