from typing import Any

import pytest
import torch

from modelyard_serving.engines.protocol import Ending, GenerationRequest, Sampling
from modelyard_serving.engines.sampling import Sampler, choice_seed

CPU = torch.device("cpu")
LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
GREEDY = Sampling(temperature=0)


def _sampler(sampling: Sampling, **changes: Any) -> Sampler:
    ends = changes.pop("ends", frozenset())
    return Sampler(GenerationRequest((3,), 400, sampling, **changes), ends=ends, device=CPU)


def _draw(sampling: Sampling, count: int = 400, **changes: Any) -> list[int]:
    sampler = _sampler(sampling, **changes)
    return [sampler.choose(LOGITS) for _ in range(count)]


@pytest.mark.parametrize("temperature", [0, 1e-300, 1e-6])
def test_temperature_zero_takes_the_likeliest(temperature: float) -> None:
    assert set(_draw(Sampling(temperature=temperature))) == {0}


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(top_p=0.01, seed=3), {0}),
        (Sampling(top_p=0.51, seed=3), {0, 1}),
        (Sampling(top_p=0.9, seed=3), {0, 1, 2}),
        (Sampling(top_k=1, seed=3), {0}),
        (Sampling(top_k=2, seed=3), {0, 1}),
        (Sampling(min_p=0.2, seed=3), {0, 1, 2}),
        (Sampling(seed=3), {0, 1, 2, 3}),
        # top_p sees what top_k leaves: 0.5 of 0.8 are more than 0.6.
        (Sampling(top_k=2, top_p=0.6, seed=3), {0}),
        (Sampling(top_p=0.6, seed=3), {0, 1}),
        # Truncation sees what the temperature makes: nearly even scores at 100, only one at 0.1.
        (Sampling(temperature=100, min_p=0.9, seed=3), {0, 1, 2, 3}),
        (Sampling(temperature=0.1, min_p=0.01, seed=3), {0}),
    ],
)
def test_only_what_truncation_leaves_is_drawn(sampling: Sampling, allowed: set[int]) -> None:
    assert set(_draw(sampling)) == allowed


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others() -> None:
    assert _draw(Sampling(seed=1)) == _draw(Sampling(seed=1))
    assert _draw(Sampling(seed=1)) != _draw(Sampling(seed=2))


def test_choices_have_seeds_that_no_user_writes() -> None:
    seeds = {choice_seed(seed, choice) for seed in range(-20, 20) for choice in range(8)}
    assert len(seeds) == 40 * 8
    assert [choice_seed(7, 0), choice_seed(-7, 0)] == [7, -7]
    assert all(torch.Generator().manual_seed(choice_seed(2**63 - 1, choice)) for choice in range(8))
    assert not seeds & set(range(20, 40))


def test_without_a_seed_two_answers_differ() -> None:
    assert _draw(Sampling()) != _draw(Sampling())


def test_a_high_temperature_flattens() -> None:
    cold, hot = _draw(Sampling(temperature=0.3, seed=1)), _draw(Sampling(temperature=2.0, seed=1))
    assert cold.count(0) > 300 > hot.count(0)


def test_frequencies_follow_the_probabilities() -> None:
    drawn = _draw(Sampling(seed=5), count=4000)
    assert [drawn.count(token) / 4000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


@pytest.mark.parametrize(
    ("sampling", "drawn"),
    [
        # The prompt is token 3: only the repetition penalty knows it. Log-probabilities are below 0.
        (Sampling(temperature=0, presence_penalty=0.6), [0, 1, 0, 0]),
        (Sampling(temperature=0, frequency_penalty=0.6), [0, 1, 0, 1]),
        (Sampling(temperature=0, repetition_penalty=4), [0, 1, 2, 0]),
        (Sampling(temperature=0, repetition_penalty=0.1), [3, 3, 3, 3]),
        (Sampling(temperature=0, logit_bias=((2, 1.3),)), [2, 2, 2, 2]),
        (Sampling(temperature=0, logit_bias=((0, -100), (1, -100))), [2, 2, 2, 2]),
        # The bias comes after the penalties, or it would be multiplied with them.
        (Sampling(temperature=0, repetition_penalty=2, logit_bias=((3, 5),)), [0, 3, 3, 3]),
    ],
)
def test_penalties_and_bias_move_also_the_likeliest(sampling: Sampling, drawn: list[int]) -> None:
    assert _draw(sampling, count=4) == drawn


def test_no_end_comes_before_so_many_tokens_whatever_the_bias() -> None:
    bias = Sampling(temperature=0, logit_bias=((0, 100),))
    assert _draw(bias, count=4, ends=frozenset({0}), ending=Ending(min_tokens=2)) == [1, 1, 0, 0]


def test_the_model_s_logits_stay_as_they_are() -> None:
    before = LOGITS.clone()
    everything = Sampling(
        repetition_penalty=2,
        frequency_penalty=1,
        presence_penalty=1,
        logit_bias=((1, 5),),
        top_k=2,
        top_p=0.9,
        min_p=0.1,
    )
    _draw(everything, count=4, ends=frozenset({0}), ending=Ending(min_tokens=2))
    assert torch.equal(LOGITS, before)
