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
    folder = models_folder / "hungry"
    _make_hungry(models_folder / "gpt2-small", folder)
    eater, silent = make("eater", "pvc://models/hungry"), make("silent")
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


def _make_hungry(tokenizer_of: Path, target: Path) -> None:
    """A GPT-NeoX of random weights with plain attention: only the engine for every model takes it, and computes a
    prompt at once."""
    from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=LONG_CONTEXT, bos_token_id=0, eos_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    facts = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(facts | {"attn_implementation": "eager"}))
    for file in target.iterdir():
        file.chmod(0o644)
