import pytest
import torch

from modelyard_serving.engines.protocol import Sampling
from modelyard_serving.engines.sampling import Sampler, nucleus

CPU = torch.device("cpu")
LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def _draw(sampling: Sampling, count: int = 400) -> list[int]:
    sampler = Sampler(sampling, CPU)
    return [sampler.choose(LOGITS) for _ in range(count)]


def test_temperature_zero_takes_the_likeliest() -> None:
    assert set(_draw(Sampling(temperature=0))) == {0}


@pytest.mark.parametrize(
    ("top_p", "allowed"), [(0.01, {0}), (0.5, {0}), (0.51, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, allowed: set[int]) -> None:
    scores = torch.softmax(LOGITS, -1)
    kept = nucleus(scores, top_p) if top_p < 1 else scores
    assert {index for index, score in enumerate(kept) if score > 0} == allowed
    assert set(_draw(Sampling(top_p=top_p, seed=3))) == allowed


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others() -> None:
    assert _draw(Sampling(seed=1)) == _draw(Sampling(seed=1))
    assert _draw(Sampling(seed=1)) != _draw(Sampling(seed=2))


def test_without_a_seed_two_answers_differ() -> None:
    assert _draw(Sampling()) != _draw(Sampling())


def test_a_high_temperature_flattens() -> None:
    cold, hot = _draw(Sampling(temperature=0.3, seed=1)), _draw(Sampling(temperature=2.0, seed=1))
    assert cold.count(0) > 300 > hot.count(0)


def test_frequencies_follow_the_probabilities() -> None:
    drawn = _draw(Sampling(seed=5), count=4000)
    assert [drawn.count(token) / 4000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
