"""Real weights of another task: all-MiniLM-L6-v2 from its example, through the official client."""

from pathlib import Path

import pytest
from e2e.cluster import REPOSITORY, Service, kubectl
from openai import BadRequestError, OpenAI

MODEL = "default/minilm"
TEXTS = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "你好 世界 🦊",
    "Kubernetes schedules pods on nodes. " * 20,
]


@pytest.fixture(scope="module")
def expected(models_folder: Path) -> list[list[float]]:
    """What transformers computes for each text alone, with the mean and the length that the model's files ask for."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = models_folder / "minilm"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    with torch.inference_mode():
        for text in TEXTS:
            tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
            mean = model(**tokens).last_hidden_state.mean(1)
            vectors.append(torch.nn.functional.normalize(mean, dim=1)[0].tolist())
    return vectors


@pytest.mark.timeout(600)
def test_the_vectors_are_those_of_transformers(platform: str, expected: list[list[float]]) -> None:
    kubectl("apply", "-f", str(REPOSITORY / "examples/minilm.yaml"))
    service = Service("default", "minilm")
    try:
        kubectl("wait", "modelservice/minilm", "-n", "default", "--for=condition=Ready", "--timeout=400s", timeout=420)
        embeddings = OpenAI(base_url=f"{platform}/default/minilm/v1", api_key="none", max_retries=0).embeddings
        answer = embeddings.create(model=MODEL, input=TEXTS)
        for found, wanted in zip(answer.data, expected, strict=True):
            assert found.embedding == pytest.approx(wanted, abs=1e-4)
        one = embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="float")
        assert one.data[0].embedding == pytest.approx(expected[0], abs=1e-4)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > one.usage.total_tokens > 0
        with pytest.raises(BadRequestError, match=r"input\.1: has .* too many: the model reads 256"):
            embeddings.create(model=MODEL, input=["fine", "word " * 300])
    finally:
        service.delete()
