"""The transformers engine against transformers' own `generate`, and under everything that goes wrong."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.serving.tiny import CONTEXT, config_for, write_model

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.protocol import (
    Ending,
    EngineFailed,
    FinishReason,
    Generation,
    GenerationRequest,
    QueueFull,
    Sampling,
)
from modelyard_serving.engines.transformers_engine import TransformersEngine
from modelyard_serving.models.causal_lm import CausalLM, import_architecture, load_causal_lm
from modelyard_serving.models.folder import check_weights, open_folder

GREEDY = Sampling(temperature=0)
PROMPTS = [(5, 9, 11), (40, 41, 42, 43, 44, 45), (7,), (100, 3, 100, 3, 100), (250, 17), (60, 61, 62, 63)]
LONG = CONTEXT - 8
"""Enough tokens that a request is still running when the test does something to it."""


def _load(folder: Path) -> CausalLM:
    config = config_for(folder)
    checked = check_weights(open_folder(config.model), None)
    return load_causal_lm(checked, import_architecture(checked, config.model.uri), config)


@contextmanager
def _engine(
    model: Any, *, ends: frozenset[int] = frozenset(), stuck_after_s: float = 60, **limits: int
) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(
        model, context_length=CONTEXT, end_tokens=ends, config=EngineConfig(**limits), stuck_after_s=stuck_after_s
    )
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=["gpt2", "llama", "llama-bf16"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    family, _, kind = request.param.partition("-")
    dtype = torch.bfloat16 if kind else torch.float32
    return _load(write_model(tmp_path_factory.mktemp("engine") / request.param, family, dtype=dtype))


@pytest.fixture(scope="module")
def llama_model(llama: Path) -> Any:
    return _load(llama).model


class GatedModel:
    """A model whose steps wait until the test lets them go; the outputs are the real ones."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device = model.device
        self.gate = threading.Semaphore(0)
        self.error: BaseException | None = None

    def forward(self) -> None:
        """The engine looks at its signature only."""

    def __call__(self, **inputs: Any) -> Any:
        assert self.gate.acquire(timeout=30)
        if self.error is not None:
            raise self.error
        return self._model(**inputs)


class CountingModel:
    """A model that notes how many tokens each step is given."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device = model.device
        self.lengths: list[int] = []

    def forward(self) -> None:
        """As above."""

    def __call__(self, **inputs: Any) -> Any:
        self.lengths.append(inputs["input_ids"].shape[1])
        return self._model(**inputs)


async def _tokens(generation: Generation) -> list[int]:
    return [event.token async for event in generation]


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - the engine's thread has no event to wait for
            await asyncio.sleep(0)


async def _until_unwell(engine: TransformersEngine) -> None:
    async with asyncio.timeout(20):
        while True:
            engine.check()
            await asyncio.sleep(0)


def _generate(loaded: CausalLM, prompt: tuple[int, ...], count: int, **settings: Any) -> list[int]:
    output = loaded.model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0, **settings,
    )  # fmt: skip
    return [int(token) for token in output[0, len(prompt) :]]


async def test_greedy_tokens_are_those_of_generate_whatever_else_runs(loaded: CausalLM) -> None:
    expected = [_generate(loaded, prompt, 40) for prompt in PROMPTS]
    assert len({tuple(tokens) for tokens in expected}) == len(PROMPTS)
    with _engine(loaded.model, max_running=4) as engine:
        noise = engine.submit(GenerationRequest((1, 2), LONG, Sampling(temperature=1.5, seed=1)))
        answers = await asyncio.gather(
            *(_tokens(engine.submit(GenerationRequest(prompt, 40, GREEDY))) for prompt in PROMPTS)
        )
        await _tokens(noise)
    assert answers == expected


async def test_an_end_token_ends_the_answer_and_is_its_last(loaded: CausalLM) -> None:
    whole = _generate(loaded, PROMPTS[0], 20)
    end = whole[7]
    with _engine(loaded.model, ends=frozenset({end})) as engine:
        events = [event async for event in engine.submit(GenerationRequest(PROMPTS[0], 20, GREEDY))]
    assert [event.token for event in events] == whole[: whole.index(end) + 1]
    assert [event.finish for event in events if event.finish] == [FinishReason.STOP]


async def test_what_ends_an_answer_can_be_added_and_taken_away(loaded: CausalLM) -> None:
    whole = _generate(loaded, PROMPTS[0], 20)
    end, stop = whole[7], next(token for token in whole if token not in whole[7:8])
    with _engine(loaded.model, ends=frozenset({end})) as engine:
        unending = GenerationRequest(PROMPTS[0], 20, GREEDY, Ending(ignore_eos=True))
        assert await _tokens(engine.submit(unending)) == whole
        stopped = GenerationRequest(PROMPTS[0], 20, GREEDY, Ending(ignore_eos=True, stop_tokens=frozenset({stop})))
        assert await _tokens(engine.submit(stopped)) == whole[: whole.index(stop) + 1]
        late = GenerationRequest(PROMPTS[0], 20, GREEDY, Ending(min_tokens=20, stop_tokens=frozenset({stop})))
        tokens = await _tokens(engine.submit(late))
        assert len(tokens) == 20
        assert not {end, stop} & set(tokens)


@pytest.mark.parametrize(
    ("sampling", "theirs"),
    [
        (Sampling(temperature=0, repetition_penalty=1.7), {"repetition_penalty": 1.7}),
        (Sampling(temperature=0, logit_bias=((40, 9.0), (41, -9.0))), {"sequence_bias": {(40,): 9.0, (41,): -9.0}}),
    ],
)
async def test_greedy_with_penalties_is_generate_too(
    loaded: CausalLM, sampling: Sampling, theirs: dict[str, Any]
) -> None:
    expected = _generate(loaded, PROMPTS[1], 30, **theirs)
    assert expected != _generate(loaded, PROMPTS[1], 30)
    with _engine(loaded.model) as engine:
        assert await _tokens(engine.submit(GenerationRequest(PROMPTS[1], 30, sampling))) == expected


async def test_a_seed_gives_the_same_tokens_alone_and_in_company(llama_model: Any) -> None:
    seeded = GenerationRequest((5, 6, 7), 30, Sampling(temperature=1.0, top_p=0.9, seed=42))
    with _engine(llama_model) as engine:
        alone = await _tokens(engine.submit(seeded))
        others = [engine.submit(GenerationRequest((8,), 30, Sampling())) for _ in range(5)]
        together, *_ = await asyncio.gather(_tokens(engine.submit(seeded)), *map(_tokens, others))
    assert alone == together
    assert len(set(alone)) > 3


async def _choices(generation: Generation, count: int) -> list[list[int]]:
    tokens: list[list[int]] = [[] for _ in range(count)]
    async for event in generation:
        tokens[event.choice].append(event.token)
    return tokens


async def test_choices_are_those_of_generate_from_one_computed_prompt(loaded: CausalLM) -> None:
    counted = CountingModel(loaded.model)
    with _engine(counted, max_running=2) as engine:  # the third begins when the others have ended
        tokens = await _choices(engine.submit(GenerationRequest(PROMPTS[1], 20, GREEDY, choices=3)), 3)
    assert tokens == [_generate(loaded, PROMPTS[1], 20)] * 3
    assert sorted(counted.lengths, reverse=True)[:2] == [len(PROMPTS[1]), 1]


async def test_a_choice_s_tokens_are_its_own_and_come_again_with_the_seed(llama_model: Any) -> None:
    def asked(choices: int, seed: int) -> GenerationRequest:
        return GenerationRequest((5, 6, 7), 20, Sampling(seed=seed), choices=choices)

    with _engine(llama_model) as engine:
        four = await _choices(engine.submit(asked(4, 1)), 4)
        again = await _choices(engine.submit(asked(4, 1)), 4)
        alone = await _choices(engine.submit(asked(1, 1)), 1)
        others = [(await _choices(engine.submit(asked(1, seed)), 1))[0] for seed in (2, 3, 4)]
    assert four == again
    assert alone[0] == four[0]
    assert len({tuple(tokens) for tokens in four + others}) == 7


async def test_all_choices_are_taken_on_or_none(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated, max_running=2, max_queued=1) as engine:
        first = engine.submit(GenerationRequest((1,), 2, GREEDY, choices=2))
        with pytest.raises(QueueFull):
            engine.submit(GenerationRequest((2,), 2, GREEDY, choices=2))
        last = engine.submit(GenerationRequest((3,), 2, GREEDY))
        gated.gate.release(100)
        assert [len(tokens) for tokens in await _choices(first, 2)] == [2, 2]
        assert len(await _tokens(last)) == 2


async def test_a_cancelled_choice_gives_its_place_back_and_the_others_go_on(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated, max_running=2, max_queued=0) as engine:
        generation = engine.submit(GenerationRequest((1,), 10, GREEDY, choices=2))
        events = aiter(generation)
        gated.gate.release(2)
        assert {(await anext(events)).choice for _ in range(2)} == {0, 1}
        generation.cancel(0)
        other = engine.submit(GenerationRequest((2,), 3, GREEDY))
        gated.gate.release(100)
        assert [event.choice async for event in events] == [1] * 9
        assert generation.choices[0].cache is None
        assert len(await _tokens(other)) == 3


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=2, top_k=2, repetition_penalty=3, seed=1)])
async def test_logprobs_are_the_model_s_own_whatever_the_sampling(loaded: CausalLM, sampling: Sampling) -> None:
    with _engine(loaded.model) as engine:
        request = GenerationRequest(PROMPTS[1], 6, sampling, logprobs=3)
        events = [event async for event in engine.submit(request)]
    with torch.inference_mode():
        whole = loaded.model(torch.tensor([[*PROMPTS[1], *(event.token for event in events)]])).logits[0].float()
    expected = torch.log_softmax(whole, -1)[len(PROMPTS[1]) - 1 :]
    close = 0.2 if loaded.model.dtype == torch.bfloat16 else 1e-4
    for event, row in zip(events, expected, strict=False):
        assert event.logprobs is not None
        assert event.logprobs.chosen == pytest.approx(float(row[event.token]), abs=close)
        assert [score for _, score in event.logprobs.top] == pytest.approx(row.topk(3).values.tolist(), abs=close)
        assert all(float(row[token]) == pytest.approx(score, abs=close) for token, score in event.logprobs.top)


async def test_without_the_wish_there_are_no_logprobs(llama_model: Any) -> None:
    with _engine(llama_model) as engine:
        events = [event async for event in engine.submit(GenerationRequest((1,), 2, GREEDY))]
    assert [event.logprobs for event in events] == [None, None]


async def test_all_running_requests_advance_together(llama_model: Any) -> None:
    order: list[int] = []

    async def follow(number: int, generation: Generation) -> None:
        async for _ in generation:
            order.append(number)

    gated = GatedModel(llama_model)
    with _engine(gated, max_running=3) as engine:
        generations = [engine.submit(GenerationRequest((number,), 10, GREEDY)) for number in range(3)]
        gated.gate.release(30)
        await asyncio.gather(*(follow(number, generation) for number, generation in enumerate(generations)))
    assert {order[:15].count(number) for number in range(3)} <= {4, 5, 6}


async def test_the_queue_is_bounded_and_urgent_requests_pass_it(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated, max_running=2, max_queued=1) as engine:
        generations = [engine.submit(GenerationRequest((number,), 2, GREEDY)) for number in range(3)]
        with pytest.raises(QueueFull):
            engine.submit(GenerationRequest((9,), 2, GREEDY))
        gated.gate.release()  # the first step may have begun before the second request came
        await _until(lambda: (engine.stats().running, engine.stats().queued) == (2, 1))
        urgent = engine.submit(GenerationRequest((9,), 2, GREEDY, urgent=True))
        gated.gate.release(100)
        assert [len(await _tokens(each)) for each in [urgent, *generations]] == [2, 2, 2, 2]
        assert (engine.stats().running, engine.stats().queued) == (0, 0)


async def test_a_cancelled_request_gives_its_place_back_within_a_step(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated, max_running=1, max_queued=1) as engine:
        running = engine.submit(GenerationRequest((1,), LONG, GREEDY))
        await _until(lambda: engine.stats().running == 1)
        queued = engine.submit(GenerationRequest((2,), 3, GREEDY))
        queued.cancel()
        assert engine.stats().queued == 0
        queued = engine.submit(GenerationRequest((3,), 3, GREEDY))
        running.cancel()
        running.cancel()
        gated.gate.release(1 + 3)  # the step in progress, then the next request's three
        assert len(await _tokens(queued)) == 3
        assert (engine.stats().running, engine.stats().queued) == (0, 0)


async def test_one_request_s_error_is_its_own(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated) as engine:
        gated.error = RuntimeError("no such kernel")
        failing = engine.submit(GenerationRequest((1,), 3, GREEDY))
        gated.gate.release()
        with pytest.raises(EngineFailed, match="RuntimeError: no such kernel"):
            await _tokens(failing)
        gated.error = None
        gated.gate.release(3)
        assert len(await _tokens(engine.submit(GenerationRequest((1,), 3, GREEDY)))) == 3
        engine.check()


async def test_a_step_that_does_not_come_back_fails_the_check(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated, stuck_after_s=0.05) as engine:
        engine.check()
        generation = engine.submit(GenerationRequest((1,), 1, GREEDY))
        with pytest.raises(EngineFailed, match="has not come back"):
            await _until_unwell(engine)
        gated.gate.release()
        await _tokens(generation)
        engine.check()


class _Gone(BaseException):
    """What ends a thread without being an error of the model."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_an_engine_whose_thread_is_gone_fails_all(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated, max_running=1) as engine:
        gated.error = _Gone()
        left = [engine.submit(GenerationRequest((number,), 3, GREEDY)) for number in range(2)]
        gated.gate.release()
        for generation in left:
            with pytest.raises(EngineFailed, match="the engine has stopped"):
                await _tokens(generation)
        with pytest.raises(EngineFailed):
            engine.submit(GenerationRequest((1,), 3, GREEDY))
        with pytest.raises(EngineFailed, match="thread is gone"):
            await _until_unwell(engine)


async def test_closing_fails_what_is_left(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated, max_running=1) as engine:
        left = [engine.submit(GenerationRequest((number,), LONG, GREEDY)) for number in range(2)]
        await _until(lambda: engine.stats().running == 1)
        gated.gate.release(LONG)
        engine.close()
        for generation in left:
            with pytest.raises(EngineFailed, match="the engine has stopped"):
                await _tokens(generation)


async def test_new_limits_hold_at_once(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated, max_running=1, max_queued=2) as engine:
        generations = [engine.submit(GenerationRequest((number,), 1, GREEDY)) for number in range(3)]
        await _until(lambda: engine.stats().running == 1)
        engine.resize(EngineConfig(max_running=3, max_queued=0))
        with pytest.raises(QueueFull):
            engine.submit(GenerationRequest((9,), 1, GREEDY))
        gated.gate.release(3)
        await asyncio.gather(*map(_tokens, generations))


async def test_events_reach_the_caller_one_by_one(llama_model: Any) -> None:
    gated = GatedModel(llama_model)
    with _engine(gated) as engine:
        events: AsyncIterator[Any] = aiter(engine.submit(GenerationRequest((1,), 3, GREEDY)))
        for last in (False, False, True):
            gated.gate.release()
            event = await anext(events)
            assert (event.finish is not None) == last
        with pytest.raises(StopAsyncIteration):
            await anext(events)
