"""A replica from configuration to ready, and every way in which it cannot start."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.serving.tiny import config_for
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from modelyard_serving.contract import EngineConfig, FailureReason
from modelyard_serving.engines.protocol import EngineFailed
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica


@pytest.fixture
def replica(log: Path) -> Iterator[Replica]:
    replica = Replica(Journal.open())
    yield replica
    replica.close()


def _entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def _failure(replica: Replica, folder: Path, **changes: Any) -> StartFailure:
    with pytest.raises(StartFailure) as caught:
        await replica.configure(config_for(folder, **changes))
    return caught.value


async def test_the_journal_tells_each_phase_with_its_time(replica: Replica, log: Path, llama: Path) -> None:
    await replica.configure(config_for(llama))
    entries = _entries(log)
    assert [(entry["event"], entry.get("phase")) for entry in entries] == [
        *(
            (event, phase)
            for phase in ("check", "imports", "load", "warmup")
            for event in ("phase-begins", "phase-ends")
        ),
        ("ready", None),
    ]
    assert {(entry["service"], entry["revision"]) for entry in entries} == {("team-a/tiny", "0123abcd")}
    assert entries[-1]["load_s"] > 0
    replica.check()


async def test_the_ready_line_tells_the_engine_and_why_it_is_not_the_faster_one(
    replica: Replica, log: Path, llama: Path, tmp_path: Path
) -> None:
    other = tmp_path / "neox"
    shutil.copytree(llama, other)
    settings = GPTNeoXConfig(
        vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPTNeoXForCausalLM(settings).save_pretrained(other)
    await replica.configure(config_for(llama))
    await replica.configure(config_for(other, revision="ffffffff"))
    ready = [entry for entry in _entries(log) if entry["event"] == "ready"]
    assert [(entry["engine"], entry.get("slower_because")) for entry in ready] == [
        ("batching", None),
        ("transformers", "there is no decoder for GPTNeoXForCausalLM"),
    ]


async def test_limits_change_without_a_new_load(replica: Replica, log: Path, llama: Path) -> None:
    await replica.configure(config_for(llama))
    await replica.configure(config_for(llama, engine=EngineConfig(max_running=1), request_timeout_s=5))
    assert [entry["event"] for entry in _entries(log)].count("ready") == 1
    assert _entries(log)[-1]["event"] == "reconfigured"


async def test_another_model_takes_the_place_of_the_present_one(
    replica: Replica, log: Path, llama: Path, gpt2: Path
) -> None:
    await replica.configure(config_for(llama))
    await replica.configure(config_for(gpt2, revision="ffffffff"))
    assert [entry["chat"] for entry in _entries(log) if entry["event"] == "ready"] == [True, False]
    replica.check()


async def test_a_stuck_engine_fails_the_health_check(
    replica: Replica, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica.configure(config_for(llama))

    def unwell(_: object) -> None:
        raise EngineFailed("stuck")

    monkeypatch.setattr("modelyard_serving.engines.batching.engine.BatchingEngine.check", unwell)
    with pytest.raises(EngineFailed, match="stuck"):
        replica.check()


async def test_a_missing_model_is_told_and_journalled(replica: Replica, log: Path, tmp_path: Path) -> None:
    failure = await _failure(replica, tmp_path / "absent")
    assert failure.reason is FailureReason.MODEL_NOT_FOUND
    last = _entries(log)[-1]
    assert (last["event"], last["level"], last["reason"]) == ("failed", "error", "ModelNotFound")
    assert last["message"] == failure.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
async def test_a_promised_gpu_that_is_not_there(replica: Replica, llama: Path) -> None:
    failure = await _failure(replica, llama, device="cuda")
    assert failure.reason is FailureReason.ACCELERATOR_MISSING
    assert "torch sees none" in failure.message


async def test_a_model_larger_than_its_memory_is_refused_before_it_is_read(
    replica: Replica, log: Path, llama: Path
) -> None:
    failure = await _failure(replica, llama, memory_bytes=100 * 2**20)
    assert failure.reason is FailureReason.MODEL_TOO_LARGE
    assert "load" not in {entry.get("phase") for entry in _entries(log)}


async def test_weights_that_lack_a_tensor(replica: Replica, llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    failure = await _failure(replica, folder)
    assert failure.reason is FailureReason.MODEL_INVALID
    assert "lack 1 tensors of the architecture, among them model.layers.1.mlp.up_proj.weight" in failure.message


async def test_weights_of_another_shape(replica: Replica, llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    failure = await _failure(replica, folder)
    assert failure.reason is FailureReason.MODEL_INVALID


async def test_weights_that_are_no_numbers(replica: Replica, llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    failure = await _failure(replica, folder)
    assert failure.reason is FailureReason.MODEL_INVALID
    assert "computes no numbers" in failure.message


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "nonsense"},
        {"model_type": "bert", "architectures": ["BertForCausalLM"], "hidden_size": "wide"},
        {"model_type": "vit", "architectures": ["ViTForCausalLM"]},
        {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}},
    ],
    ids=["unknown type", "bad value", "no language model", "remote code"],
)
async def test_a_config_that_transformers_cannot_follow(
    replica: Replica, llama: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "model"))
    (folder / "own.py").write_text("raise SystemExit('remote code was run')")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    failure = await _failure(replica, folder)
    assert failure.reason is FailureReason.MODEL_INVALID
    assert failure.message.startswith("pvc://models/tiny: ")


async def test_a_model_without_tokenizer(replica: Replica, llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "model"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert (await _failure(replica, folder)).reason is FailureReason.MODEL_INVALID


def test_a_log_file_that_cannot_be_opened_is_told_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELYARD_LOG_FILE", str(tmp_path / "absent" / "log"))
    Journal.open().write("hello", nothing=None)
    refused, hello = map(json.loads, capfd.readouterr().out.splitlines())
    assert (refused["event"], refused["level"]) == ("log-file-refused", "warning")
    assert (hello["event"], "nothing" in hello) == ("hello", False)
