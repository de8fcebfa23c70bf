"""The batching engine under everything that requests ask for and everything that goes wrong."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.unit.serving.batching.families import CONTEXT, FAMILIES, generate, tiny_model

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.batching.decoder import Chunks, Decoder, Scores, Unsupported, decoder_for
from modelyard_serving.engines.batching.engine import BatchingEngine
from modelyard_serving.engines.batching.kv_memory import KVMemory
from modelyard_serving.engines.protocol import (
    Ending,
    EngineFailed,
    FinishReason,
    Generation,
    GenerationRequest,
    QueueFull,
    Sampling,
)

GREEDY = Sampling(temperature=0)
PROMPT = (40, 41, 42, 43, 44, 45)
LONG = CONTEXT - 8
BLOCK = 16


class _Gated:
    """A decoder whose steps wait until the test lets them go, and that remembers how many tokens each had."""

    def __init__(self, decoder: Decoder, *, opened: bool = False) -> None:
        self._decoder = decoder
        self.kv = decoder.kv
        self.gate = threading.Semaphore(10_000 if opened else 0)
        self.error: BaseException | None = None
        self.tokens: list[int] = []

    def logits(self, chunks: Chunks, memory: KVMemory) -> Scores:
        self.tokens.append(sum(chunk.count for chunk in chunks))
        assert self.gate.acquire(timeout=30)
        if self.error is not None:
            raise self.error
        return self._decoder.logits(chunks, memory)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("llama")


@pytest.fixture
def gated(model: Any) -> _Gated:
    return _Gated(decoder_for(model))


@pytest.fixture
def opened(model: Any) -> _Gated:
    return _Gated(decoder_for(model), opened=True)


@contextmanager
def _engine(
    decoder: Decoder, *, ends: frozenset[int] = frozenset(), stuck_after_s: float = 60, blocks: int = 40, **limits: int
) -> Iterator[BatchingEngine]:
    engine = BatchingEngine(
        decoder, KVMemory(decoder.kv, blocks=blocks, block_size=BLOCK), context_length=CONTEXT, end_tokens=ends,
        config=EngineConfig(**limits), stuck_after_s=stuck_after_s,
    )  # fmt: skip
    yield engine
    engine.close()


async def _tokens(generation: Generation) -> list[int]:
    return [event.token async for event in generation]


async def _choices(generation: Generation, count: int) -> list[list[int]]:
    tokens: list[list[int]] = [[] for _ in range(count)]
    async for event in generation:
        tokens[event.choice].append(event.token)
    return tokens


async def _until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - the engine's thread has no event to wait for
            await asyncio.sleep(0)


async def _until_unwell(engine: BatchingEngine) -> None:
    async with asyncio.timeout(20):
        while True:
            engine.check()
            await asyncio.sleep(0)


async def test_what_ends_an_answer_can_be_added_and_taken_away(model: Any, opened: _Gated) -> None:
    whole = generate(model, PROMPT, 20)
    end, stop = whole[7], next(token for token in whole if token != whole[7])
    with _engine(opened, ends=frozenset({end})) as engine:
        events = [event async for event in engine.submit(GenerationRequest(PROMPT, 20, GREEDY))]
        assert [event.token for event in events] == whole[: whole.index(end) + 1]
        assert [event.finish for event in events if event.finish] == [FinishReason.STOP]
        unending = GenerationRequest(PROMPT, 20, GREEDY, Ending(ignore_eos=True))
        assert await _tokens(engine.submit(unending)) == whole
        late = GenerationRequest(PROMPT, 20, GREEDY, Ending(min_tokens=20, stop_tokens=frozenset({stop})))
        tokens = await _tokens(engine.submit(late))
        assert len(tokens) == 20
        assert not {end, stop} & set(tokens)


async def test_penalties_and_bias_are_those_of_generate(model: Any, opened: _Gated) -> None:
    def theirs(**settings: Any) -> list[int]:
        output = model.generate(
            torch.tensor([PROMPT]), attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long), max_new_tokens=30,
            do_sample=False, eos_token_id=None, pad_token_id=0, **settings,
        )  # fmt: skip
        return [int(token) for token in output[0, len(PROMPT) :]]

    cases = {
        Sampling(temperature=0, repetition_penalty=1.7): theirs(repetition_penalty=1.7),
        Sampling(temperature=0, logit_bias=((40, 9.0), (41, -9.0))): theirs(sequence_bias={(40,): 9.0, (41,): -9.0}),
    }
    with _engine(opened) as engine:
        for sampling, expected in cases.items():
            assert expected != generate(model, PROMPT, 30)
            assert await _tokens(engine.submit(GenerationRequest(PROMPT, 30, sampling))) == expected


async def test_a_seed_gives_the_same_tokens_alone_and_in_company(opened: _Gated) -> None:
    seeded = GenerationRequest((5, 6, 7), 30, Sampling(temperature=1.0, top_p=0.9, seed=42))
    with _engine(opened) as engine:
        alone = await _tokens(engine.submit(seeded))
        others = [engine.submit(GenerationRequest((8,), 30, Sampling())) for _ in range(5)]
        together, *_ = await asyncio.gather(_tokens(engine.submit(seeded)), *map(_tokens, others))
    assert alone == together
    assert len(set(alone)) > 3


async def test_choices_are_those_of_generate_from_one_computed_prompt(model: Any, opened: _Gated) -> None:
    prompt = tuple(range(40, 70))
    with _engine(opened, max_running=2) as engine:  # the third begins when the others have ended
        tokens = await _choices(engine.submit(GenerationRequest(prompt, 20, GREEDY, choices=3)), 3)
    assert tokens == [generate(model, prompt, 20)] * 3
    assert sorted(opened.tokens, reverse=True)[:2] == [30, 2]


async def test_a_known_beginning_is_not_computed_again_and_is_counted(model: Any, opened: _Gated) -> None:
    prompt = tuple(range(40, 70))
    with _engine(opened) as engine:
        answers = [await _tokens(engine.submit(GenerationRequest(prompt, 3, GREEDY))) for _ in range(2)]
        await _until(lambda: engine.stats().running == 0)
        stats = engine.stats()
    assert answers == [generate(model, prompt, 3)] * 2
    assert opened.tokens == [30, 1, 1, 1, 1, 1]
    assert (stats.prompt_tokens, stats.known_tokens, stats.batches, stats.batch_items) == (60, 29, 6, 6)


async def test_a_choice_s_tokens_are_its_own_and_come_again_with_the_seed(opened: _Gated) -> None:
    def asked(choices: int) -> GenerationRequest:
        return GenerationRequest((5, 6, 7), 20, Sampling(seed=1), choices=choices)

    with _engine(opened) as engine:
        four = await _choices(engine.submit(asked(4)), 4)
        again = await _choices(engine.submit(asked(4)), 4)
        alone = await _choices(engine.submit(asked(1)), 1)
    assert four == again
    assert alone[0] == four[0]
    assert len({tuple(tokens) for tokens in four}) == 4


async def test_all_choices_are_taken_on_or_none(gated: _Gated) -> None:
    with _engine(gated, max_running=2, max_queued=1) as engine:
        first = engine.submit(GenerationRequest((1,), 2, GREEDY, choices=2))
        with pytest.raises(QueueFull):
            engine.submit(GenerationRequest((2,), 2, GREEDY, choices=2))
        last = engine.submit(GenerationRequest((3,), 2, GREEDY))
        gated.gate.release(100)
        assert [len(tokens) for tokens in await _choices(first, 2)] == [2, 2]
        assert len(await _tokens(last)) == 2


async def test_a_cancelled_choice_gives_its_place_back_and_the_others_go_on(gated: _Gated) -> None:
    with _engine(gated, max_running=2, max_queued=0) as engine:
        generation = engine.submit(GenerationRequest((1,), 10, GREEDY, choices=2))
        events = aiter(generation)
        gated.gate.release(1)
        assert {(await anext(events)).choice for _ in range(2)} == {0, 1}
        generation.cancel(0)
        other = engine.submit(GenerationRequest((2,), 3, GREEDY))
        gated.gate.release(100)
        assert [event.choice async for event in events] == [1] * 9
        assert len(await _tokens(other)) == 3


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=2, top_k=2, repetition_penalty=3, seed=1)])
async def test_logprobs_are_the_model_s_own_whatever_the_sampling(
    model: Any, opened: _Gated, sampling: Sampling
) -> None:
    with _engine(opened) as engine:
        request = GenerationRequest(PROMPT, 6, sampling, logprobs=3)
        events = [event async for event in engine.submit(request)]
    with torch.inference_mode():
        whole = model(torch.tensor([[*PROMPT, *(event.token for event in events)]])).logits[0]
    for event, row in zip(events, torch.log_softmax(whole, -1)[len(PROMPT) - 1 :], strict=False):
        assert event.logprobs is not None
        assert event.logprobs.chosen == pytest.approx(float(row[event.token]), abs=1e-3)
        assert [score for _, score in event.logprobs.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-3)


async def test_the_queue_is_bounded_and_urgent_requests_pass_it(gated: _Gated) -> None:
    with _engine(gated, max_running=2, max_queued=1) as engine:
        generations = [engine.submit(GenerationRequest((number,), 2, GREEDY)) for number in range(3)]
        with pytest.raises(QueueFull):
            engine.submit(GenerationRequest((9,), 2, GREEDY))
        gated.gate.release()  # the first step may have begun before the second request came
        await _until(lambda: (engine.stats().running, engine.stats().queued) == (2, 1))
        urgent = engine.submit(GenerationRequest((9,), 2, GREEDY, urgent=True))
        gated.gate.release(100)
        assert [len(await _tokens(each)) for each in [urgent, *generations]] == [2, 2, 2, 2]
        await _until(lambda: (engine.stats().running, engine.stats().queued) == (0, 0))


async def test_a_cancelled_request_gives_its_place_back_within_a_step(gated: _Gated) -> None:
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
        await _until(lambda: (engine.stats().running, engine.stats().queued) == (0, 0))


async def test_a_step_s_error_ends_what_it_computed_and_nothing_else(model: Any, gated: _Gated) -> None:
    with _engine(gated, max_running=1) as engine:
        gated.error = RuntimeError("no such kernel")
        failing, waiting = (engine.submit(GenerationRequest(PROMPT, 5, GREEDY)) for _ in range(2))
        gated.gate.release()
        with pytest.raises(EngineFailed, match="RuntimeError: no such kernel"):
            await _tokens(failing)
        gated.error = None
        gated.gate.release(100)
        assert await _tokens(waiting) == generate(model, PROMPT, 5)
        engine.check()


class _Refuses:
    """A form that fails at the second token."""

    def __init__(self) -> None:
        self.made = 0

    def begin(self) -> "_Refuses":
        return self

    def restrict(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def push(self, token: int) -> None:
        self.made += 1
        if self.made == 2:
            raise ValueError("cannot go on")


async def test_a_form_that_cannot_go_on_ends_its_own_request_alone(model: Any, opened: _Gated) -> None:
    with _engine(opened) as engine:
        bad = engine.submit(GenerationRequest(PROMPT, 9, GREEDY, constraint=_Refuses()))
        good = engine.submit(GenerationRequest(PROMPT, 9, GREEDY))
        with pytest.raises(EngineFailed, match="cannot go on"):
            await _tokens(bad)
        assert await _tokens(good) == generate(model, PROMPT, 9)
        await _until(lambda: engine.stats().running == 0)


async def test_a_step_that_does_not_come_back_fails_the_check(gated: _Gated) -> None:
    with _engine(gated, stuck_after_s=0.05) as engine:
        engine.check()
        generation = engine.submit(GenerationRequest((1,), 1, GREEDY))
        with pytest.raises(EngineFailed, match="has not come back"):
            await _until_unwell(engine)
        gated.gate.release()
        await _tokens(generation)
        await _until(lambda: engine.stats().running == 0)
        engine.check()


class _Gone(BaseException):
    """What ends a thread without being an error of the model."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_an_engine_whose_thread_is_gone_fails_all(gated: _Gated) -> None:
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


async def test_closing_fails_what_is_left(gated: _Gated) -> None:
    with _engine(gated, max_running=1) as engine:
        left = [engine.submit(GenerationRequest((number,), LONG, GREEDY)) for number in range(2)]
        await _until(lambda: engine.stats().running == 1)
        gated.gate.release(10)
        engine.close()
        for generation in left:
            with pytest.raises(EngineFailed, match="the engine has stopped"):
                await _tokens(generation)


async def test_new_limits_hold_at_once(gated: _Gated) -> None:
    with _engine(gated, max_running=1, max_queued=2) as engine:
        generations = [engine.submit(GenerationRequest((number,), 1, GREEDY)) for number in range(3)]
        await _until(lambda: engine.stats().running == 1)
        engine.resize(EngineConfig(max_running=3, max_queued=0))
        with pytest.raises(QueueFull):
            engine.submit(GenerationRequest((9,), 1, GREEDY))
        gated.gate.release(2)
        await asyncio.gather(*map(_tokens, generations))


async def test_answers_longer_than_the_memory_for_all_of_them_come_whole(model: Any, opened: _Gated) -> None:
    with _engine(opened, blocks=CONTEXT // BLOCK + 1) as engine:
        asked = [engine.submit(GenerationRequest((number, 3), 40, GREEDY)) for number in range(4)]
        answers = await asyncio.gather(*map(_tokens, asked))
    assert answers == [generate(model, (number, 3), 40) for number in range(4)]


def test_the_context_is_what_the_memory_holds(opened: _Gated) -> None:
    with _engine(opened, blocks=4) as engine:
        assert engine.context_length == 3 * BLOCK


@pytest.mark.parametrize("family", FAMILIES)
async def test_in_bfloat16_the_numbers_are_those_of_the_model(family: str) -> None:
    model = tiny_model(family).to(torch.bfloat16)
    prompts = [PROMPT, tuple(range(30)), (7,)]
    with _engine(decoder_for(model)) as engine:
        asked = [engine.submit(GenerationRequest(prompt, 12, GREEDY, logprobs=0)) for prompt in prompts]
        answers = await asyncio.gather(*(_events(each) for each in asked))
    for prompt, events in zip(prompts, answers, strict=True):
        with torch.inference_mode():
            whole = model(torch.tensor([[*prompt, *(event.token for event in events)]])).logits[0].float()
        for event, row in zip(events, torch.log_softmax(whole, -1)[len(prompt) - 1 :], strict=False):
            assert event.logprobs.chosen == pytest.approx(float(row[event.token]), abs=0.5)


async def _events(generation: Generation) -> list[Any]:
    return [event async for event in generation]


@pytest.mark.parametrize(
    ("family", "changes", "cause"),
    [
        ("mistral", {"sliding_window": 32}, "window of 32 tokens"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "of kind dynamic"),
        ("gpt2", {"add_cross_attention": True}, "another model's output"),
    ],
)
def test_what_it_would_compute_wrongly_it_does_not_take(family: str, changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(Unsupported, match=cause):
        decoder_for(tiny_model(family, **changes))


def test_released_weights_are_gone_and_the_decoder_goes_on() -> None:
    model = tiny_model("llama")
    decoder_for(model, release=True)
    assert model.model.layers[0].mlp.down_proj.weight is None
    assert model.model.embed_tokens.weight is not None
