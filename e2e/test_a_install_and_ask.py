"""From nothing to a right answer, as the quickstart says it."""

import json
from pathlib import Path

import pytest
from e2e.cluster import REPOSITORY, Service, kubectl
from openai import OpenAI

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
TOKENS = 24


@pytest.fixture(scope="module")
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
        client = OpenAI(base_url=f"{platform}/default/smollm2/v1", api_key="none", max_retries=0)
        ask = {"model": "default/smollm2", "messages": QUESTION, "max_tokens": TOKENS, "temperature": 0}
        whole = client.chat.completions.create(**ask)
        assert whole.choices[0].message.content == greedy_answer
        assert whole.usage is not None
        assert whole.usage.completion_tokens <= TOKENS
        chunks = list(client.chat.completions.create(**ask, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == greedy_answer
        assert len(chunks) > 5
        table = kubectl("get", "msvc", "smollm2", "-n", "default")
        assert status["activeRevision"] in table
        assert "True" in table
    finally:
        service.delete()
