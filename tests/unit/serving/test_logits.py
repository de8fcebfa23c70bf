"""Each function of a row of logits, by tables and against transformers' own processors."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from modelyard_serving.engines import penalties, truncation
from modelyard_serving.engines.logprobs import logprobs
from modelyard_serving.engines.protocol import Logprobs

SCORES = (0.5, 0.3, 0.15, 0.05)
SIZE = 12
ROWS = st.lists(st.floats(-30, 30, width=32), min_size=SIZE, max_size=SIZE).map(torch.tensor)
TOKENS = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=8)
SHARES = st.floats(0.01, 0.99)
Truncation = Callable[[torch.Tensor, float], torch.Tensor]


def _kept(logits: torch.Tensor) -> set[int]:
    return {token for token, logit in enumerate(logits) if logit > -math.inf}


def _history(prompt: list[int], answer: list[int]) -> penalties.History:
    history = penalties.History(prompt, SIZE, torch.device("cpu"))
    for token in answer:
        history.add(token)
    return history


@pytest.mark.parametrize(
    ("truncate", "limit", "kept"),
    [
        (truncation.top_k, 1, {0}),
        (truncation.top_k, 3, {0, 1, 2}),
        (truncation.top_k, 99, {0, 1, 2, 3}),
        (truncation.top_p, 1e-9, {0}),
        (truncation.top_p, 0.01, {0}),
        (truncation.top_p, 0.49, {0}),
        (truncation.top_p, 0.51, {0, 1}),
        (truncation.top_p, 0.79, {0, 1}),
        (truncation.top_p, 0.9, {0, 1, 2}),
        (truncation.top_p, 0.96, {0, 1, 2, 3}),
        (truncation.min_p, 0.09, {0, 1, 2, 3}),
        (truncation.min_p, 0.11, {0, 1, 2}),
        (truncation.min_p, 0.31, {0, 1}),
        (truncation.min_p, 1.0, {0}),
    ],
)
def test_truncation_keeps_the_likeliest(truncate: Truncation, limit: float, kept: set[int]) -> None:
    logits = torch.log(torch.tensor(SCORES))
    assert _kept(truncate(logits, limit)) == kept
    shuffled = truncate(logits[[2, 0, 3, 1]], limit)
    assert {(2, 0, 3, 1)[place] for place in _kept(shuffled)} == kept


@given(logits=ROWS, count=st.integers(1, SIZE))
def test_top_k_is_transformers(logits: torch.Tensor, count: int) -> None:
    assert torch.equal(truncation.top_k(logits, count), TopKLogitsWarper(count)(None, logits[None])[0])


@given(logits=ROWS, share=SHARES)
def test_top_p_is_transformers(logits: torch.Tensor, share: float) -> None:
    assert torch.equal(truncation.top_p(logits, share), TopPLogitsWarper(share)(None, logits[None])[0])


@given(logits=ROWS, share=SHARES)
def test_min_p_is_transformers(logits: torch.Tensor, share: float) -> None:
    assert torch.equal(truncation.min_p(logits, share), MinPLogitsWarper(share)(None, logits[None])[0])


@pytest.mark.parametrize("truncate", [truncation.top_k, truncation.top_p, truncation.min_p])
@given(logits=ROWS, limits=st.tuples(st.integers(1, SIZE), SHARES))
def test_truncation_keeps_the_likeliest_and_moves_no_logit(
    truncate: Truncation, logits: torch.Tensor, limits: tuple[int, float]
) -> None:
    before = logits.clone()
    after = truncate(logits, limits[0] if truncate is truncation.top_k else limits[1])
    kept = sorted(_kept(after))
    assert logits[kept].max() == logits.max()
    assert torch.equal(after[kept], logits[kept])
    assert torch.equal(logits, before)
    dropped = sorted(set(range(SIZE)) - set(kept))
    assert not dropped or logits[dropped].max() <= logits[kept].min()


def test_a_repeated_token_is_less_likely_on_both_sides_of_zero() -> None:
    logits = torch.tensor([2.0, -2.0, 2.0, -2.0])
    seen = torch.tensor([True, True, False, False])
    assert penalties.repetition(logits, seen, 2.0).tolist() == [1.0, -4.0, 2.0, -2.0]
    assert penalties.repetition(logits, seen, 0.5).tolist() == [4.0, -1.0, 2.0, -2.0]


@given(logits=ROWS, prompt=TOKENS, answer=TOKENS, penalty=st.floats(0.5, 3))
def test_repetition_is_transformers(logits: torch.Tensor, prompt: list[int], answer: list[int], penalty: float) -> None:
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([prompt + answer]), logits[None].clone())[0]
    assert torch.equal(penalties.repetition(logits, _history(prompt, answer).seen, penalty), theirs)


@pytest.mark.parametrize(
    ("frequency", "presence", "expected"),
    [
        (0, 0, [0, 0, 0, 0]),
        (0.5, 0, [0, -0.5, -1.5, 0]),
        (0, 2, [0, -2, -2, 0]),
        (0.5, 2, [0, -2.5, -3.5, 0]),
        (-1, -2, [0, 3, 5, 0]),
    ],
)
def test_frequency_counts_and_presence_does_not(frequency: float, presence: float, expected: list[float]) -> None:
    counts = torch.tensor([0.0, 1.0, 3.0, 0.0])
    moved = penalties.frequency_and_presence(torch.zeros(4), counts, frequency=frequency, presence=presence)
    assert moved.tolist() == expected


@given(prompt=TOKENS, answer=TOKENS)
def test_the_history_counts_the_answer_and_has_seen_the_prompt_too(prompt: list[int], answer: list[int]) -> None:
    history = _history(prompt, answer)
    assert history.counts.tolist() == [answer.count(token) for token in range(SIZE)]
    assert history.seen.tolist() == [token in prompt + answer for token in range(SIZE)]


@given(logits=ROWS, wishes=st.dictionaries(st.integers(0, SIZE - 1), st.floats(-100, 100, width=32)))
def test_bias_is_added_to_its_tokens_alone(logits: torch.Tensor, wishes: dict[int, float]) -> None:
    tokens = torch.tensor(list(wishes), dtype=torch.long)
    moved = penalties.bias(logits, tokens, torch.tensor(list(wishes.values())))
    expected = [float(logit) + wishes.get(token, 0.0) for token, logit in enumerate(logits)]
    assert moved.tolist() == pytest.approx(expected, abs=1e-4)


@given(logits=ROWS, ends=st.sets(st.integers(0, SIZE - 1), min_size=1))
def test_what_is_forbidden_is_impossible_as_in_transformers(logits: torch.Tensor, ends: set[int]) -> None:
    theirs = MinNewTokensLengthLogitsProcessor(0, 1, sorted(ends))(torch.zeros((1, 0)), logits[None].clone())[0]
    assert torch.equal(penalties.forbid(logits, torch.tensor(sorted(ends))), theirs)


def test_what_is_impossible_has_openai_s_number_for_it() -> None:
    told = logprobs(torch.tensor([-math.inf, 0.0]), token=0, count=5)
    assert told == Logprobs(-9999.0, ((1, 0.0), (0, -9999.0)))
