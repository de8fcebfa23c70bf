"""From nothing to a right answer, as the quickstart says it."""

import json
import subprocess
from pathlib import Path

import pytest
from e2e.cluster import CLI, REPOSITORY, Service, kubectl
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

MODEL = "default/smollm2"
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
]
TOKENS = 24


def ask(url: str) -> tuple[str, str]:
    """The greedy answer of SmolLM2 as `default/smollm2` at `url`: not streamed, and streamed."""
    completions = OpenAI(base_url=url, api_key="none", max_retries=0).chat.completions
    whole = completions.create(model=MODEL, messages=QUESTION, max_tokens=TOKENS, temperature=0)
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens <= TOKENS
    stream = completions.create(model=MODEL, messages=QUESTION, max_tokens=TOKENS, temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(pieces) > 5
    return whole.choices[0].message.content or "", "".join(pieces)


@pytest.fixture(scope="session")
def greedy_answer(models_folder: Path) -> str:
    """What transformers' own greedy `generate` says."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models_folder / "smollm2"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt")
    ids = ids if isinstance(ids, torch.Tensor) else ids["input_ids"]
    out = model.generate(ids, max_new_tokens=TOKENS, do_sample=False)
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.timeout(600)
def test_the_example_answers_rightly(platform: str, greedy_answer: str) -> None:
    kubectl("apply", "-f", str(REPOSITORY / "examples/smollm2.yaml"))
    service = Service("default", "smollm2")
    try:
        kubectl("wait", "modelservice/smollm2", "-n", "default", "--for=condition=Ready", "--timeout=400s", timeout=420)
        status = service.status
        print(json.dumps(status["coldStart"], indent=1))
        assert ask(f"{platform}/default/smollm2/v1") == (greedy_answer, greedy_answer)
        table = kubectl("get", "msvc", "smollm2", "-n", "default")
        assert status["activeRevision"] in table
        assert "True" in table
    finally:
        service.delete()


@pytest.mark.timeout(300)
def test_the_same_manifest_answers_the_same_without_kubernetes(models_folder: Path, greedy_answer: str) -> None:
    """`modelyard run` on this machine."""
    port = 18000
    command = [
        CLI, "run", "-f", str(REPOSITORY / "examples/smollm2.yaml"),
        "--volume", f"models={models_folder}", "--port", str(port),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as local:
        try:
            assert local.stdout is not None
            lines: list[str] = []
            for line in local.stdout:
                lines.append(line)
                if f"http://127.0.0.1:{port}/default/smollm2" in line:
                    break
            else:
                raise AssertionError("it ended: " + "".join(lines))
            assert ask(f"http://127.0.0.1:{port}/default/smollm2/v1") == (greedy_answer, greedy_answer)
        finally:
            local.terminate()
            local.communicate(timeout=60)
    assert local.returncode == 130
