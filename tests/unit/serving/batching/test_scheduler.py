"""The scheduler alone: who computes what in which step, with numbers only."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from modelyard_serving.engines.batching.scheduler import WORTH_SHARING, Plan, Scheduler
from modelyard_serving.engines.batching.sequence import Sequence, blocks_for

BLOCK = 16


class _Sequence(Sequence):
    """One that a test cancels."""

    gone = False

    @property
    def cancelled(self) -> bool:
        return self.gone


@dataclass
class _Memory:
    """What each place holds, as the engine would have written it: the tokens up to there."""

    places: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def run(self, plan: Plan[_Sequence]) -> None:
        for copy in plan.copies:
            for place in range(copy.tokens):
                at = place // BLOCK, place % BLOCK
                self.places[copy.target[at[0]], at[1]] = self.places[copy.source[at[0]], at[1]]
        for chunk in plan.chunks:
            for place in range(chunk.start, chunk.start + chunk.count):
                at = chunk.sequence.blocks[place // BLOCK], place % BLOCK
                self.places[at] = tuple(chunk.sequence.tokens[: place + 1])
        for chunk in plan.chunks:
            for place in range(chunk.start + chunk.count):
                known = self.places[chunk.sequence.blocks[place // BLOCK], place % BLOCK]
                assert known == tuple(chunk.sequence.tokens[: place + 1])


def _scheduler(blocks: int = 40, step_tokens: int = 64) -> Scheduler[_Sequence]:
    return Scheduler(blocks, BLOCK, step_tokens)


def _sequence(length: int, *, first: int = 0, group: object = None, urgent: bool = False) -> _Sequence:
    return _Sequence(range(first, first + length), group=group or object(), urgent=urgent)


def _step(scheduler: Scheduler[_Sequence], most: int = 8) -> dict[_Sequence, int]:
    """One step without a model; how many tokens were computed of each sequence."""
    plan = scheduler.plan(most)
    for chunk in plan.chunks:
        scheduler.computed(chunk)
        if chunk.reaches_end:
            chunk.sequence.tokens.append(0)
    return {chunk.sequence: chunk.count for chunk in plan.chunks}


def test_a_long_prompt_comes_in_pieces_beside_the_answers() -> None:
    scheduler = _scheduler(step_tokens=20)
    short, long = _sequence(3), _sequence(50, first=500)
    scheduler.add([short])
    assert _step(scheduler) == {short: 3}
    scheduler.add([long])
    assert [_step(scheduler) for _ in range(4)] == [
        {short: 1, long: 19},
        {short: 1, long: 19},
        {short: 1, long: 12},
        {short: 1, long: 1},
    ]


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    scheduler = _scheduler(step_tokens=20)
    long, short = _sequence(100), _sequence(10, first=500)
    scheduler.add([long, short])
    assert _step(scheduler) == {long: 10, short: 10}
    assert _step(scheduler) == {long: 19, short: 1}


def test_a_long_prompt_gets_on_however_many_short_ones_come() -> None:
    scheduler = _scheduler(step_tokens=20)
    long = _sequence(60)
    scheduler.add([long])
    for number in range(6):
        scheduler.add([_sequence(40, first=1000 * number + 500) for _ in range(3)])
        assert _step(scheduler, most=100).get(long, 0) >= 1
    assert long.computed >= 60


def test_short_prompts_are_computed_together() -> None:
    scheduler = _scheduler(step_tokens=64)
    prompts = [_sequence(20, first=100 * number) for number in range(3)]
    scheduler.add(prompts)
    assert _step(scheduler) == dict.fromkeys(prompts, 20)


def test_chunks_of_one_token_come_first_for_they_are_computed_as_answers() -> None:
    scheduler = _scheduler(step_tokens=21)
    scheduler.add([_sequence(40), _sequence(9, first=500), _sequence(40, first=900)])
    counts = [chunk.count for chunk in scheduler.plan(8).chunks]
    assert sorted(counts) == [1, 9, 11]
    assert counts[0] == 1


def test_no_more_run_than_may_and_urgent_ones_beside_them() -> None:
    scheduler = _scheduler()
    ordinary = [_sequence(3, first=10 * number) for number in range(3)]
    urgent = _sequence(3, first=900, urgent=True)
    scheduler.add(ordinary)
    assert set(_step(scheduler, most=2)) == set(ordinary[:2])
    scheduler.add([urgent])
    assert set(_step(scheduler, most=2)) == {*ordinary[:2], urgent}
    scheduler.end(ordinary[0])
    assert set(_step(scheduler, most=2)) == {*ordinary[1:], urgent}


def test_the_youngest_gives_its_memory_to_the_oldest_and_begins_again() -> None:
    scheduler = _scheduler(blocks=4)
    old, young = _sequence(30), _sequence(28, first=500)
    scheduler.add([old, young])
    _step(scheduler)
    for _ in range(3):
        _step(scheduler)
    assert (scheduler.running, list(scheduler.waiting)) == ([old], [young])
    assert young.tokens[28:], "what it has answered stays"
    scheduler.end(old)
    assert _step(scheduler) == {young: len(young.tokens) - 1}


def test_an_urgent_one_takes_memory_from_the_youngest() -> None:
    scheduler = _scheduler(blocks=2)
    scheduler.add([ordinary := _sequence(20)])
    _step(scheduler)
    scheduler.add([urgent := _sequence(3, first=500, urgent=True)])
    assert _step(scheduler) == {urgent: 3}
    assert list(scheduler.waiting) == [ordinary]


def test_a_cancelled_one_gives_its_memory_back_before_the_next_step() -> None:
    scheduler = _scheduler(blocks=2)
    running, waiting = _sequence(20), _sequence(20, first=500)
    scheduler.add([running, waiting])
    assert _step(scheduler) == {running: 20}
    running.gone = True
    assert _step(scheduler) == {waiting: 20}


def test_choices_wait_for_the_first_to_compute_the_prompt() -> None:
    scheduler, group = _scheduler(step_tokens=32), object()
    choices = [_sequence(40, group=group) for _ in range(3)]
    other = _sequence(5, first=500)
    scheduler.add([*choices, other])
    assert _step(scheduler) == {choices[0]: 27, other: 5}
    assert _step(scheduler) == {choices[0]: 13, other: 1}
    assert _step(scheduler) == {**dict.fromkeys(choices, 1), other: 1}
    assert (scheduler.prefix_use.asked, scheduler.prefix_use.found) == (125, 78)


def test_what_has_ended_is_known_until_its_memory_is_needed() -> None:
    scheduler = _scheduler(blocks=6)
    first = _sequence(40)
    scheduler.add([first])
    _step(scheduler)
    scheduler.end(first)
    again = _sequence(40)
    scheduler.add([again])
    assert _step(scheduler) == {again: 1}
    scheduler.end(again)
    wide = _sequence(90, first=500)
    scheduler.add([wide])
    _step(scheduler)
    assert wide.blocks, "all memory is for what runs"
    scheduler.end(wide)
    scheduler.add([last := _sequence(40)])
    assert _step(scheduler) == {last: 40}


def test_too_short_a_beginning_is_not_shared() -> None:
    scheduler = _scheduler()
    first, second = _sequence(WORTH_SHARING - 1), _sequence(WORTH_SHARING - 1)
    scheduler.add([first])
    _step(scheduler)
    scheduler.add([second])
    assert _step(scheduler)[second] == WORTH_SHARING - 1


Arrival = tuple[int, int, int, int, bool]
ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 12),  # the step in which it comes
        st.integers(1, 60),  # tokens of its prompt
        st.integers(1, 30),  # tokens of its answer
        st.integers(0, 2),  # where its prompt begins to differ from others
        st.booleans(),  # cancelled on the way
    ),
    min_size=1,
    max_size=12,
)


@given(ARRIVALS, st.integers(6, 14), st.integers(4, 70), st.integers(1, 6))
def test_every_sequence_is_computed_from_its_own_tokens_and_all_memory_comes_back(
    arrivals: list[Arrival], blocks: int, step_tokens: int, most: int
) -> None:
    scheduler, memory = _scheduler(blocks, step_tokens), _Memory()
    goals: dict[_Sequence, int] = {}
    leaving = []
    for step in range(3000):
        for come, prompt, answer, kind, leaves in arrivals:
            if come == step:
                sequence = _sequence(prompt, first=1000 * kind)
                goals[sequence] = min(prompt + answer, 5 * BLOCK)
                scheduler.add([sequence])
                leaving += [sequence] if leaves else []
        if step == 15:
            for sequence in leaving:
                sequence.gone = True
        plan = scheduler.plan(most)
        memory.run(plan)
        held = [block for each in scheduler.running for block in each.blocks]
        assert len(held) == len(set(held))
        assert sum(not each.urgent for each in scheduler.running) <= most
        answers = sum(chunk.count == 1 for chunk in plan.chunks)
        assert sum(chunk.count for chunk in plan.chunks) <= max(step_tokens, answers + 1)
        for chunk in plan.chunks:
            scheduler.computed(chunk)
            if chunk.reaches_end:
                chunk.sequence.tokens.append(len(chunk.sequence.tokens) * 7 % 11)
                if len(chunk.sequence.tokens) >= goals[chunk.sequence]:
                    scheduler.end(chunk.sequence)
        if step > 15 and not plan.chunks and not plan.copies:
            break
    assert not scheduler.running
    assert not scheduler.waiting
    assert all(each.gone or len(each.tokens) >= goals[each] for each in goals)
    whole = _sequence(blocks * BLOCK - 1, first=5000)  # all memory at once, so nothing was lost
    scheduler.add([whole])
    scheduler.plan(1)
    assert len(whole.blocks) == blocks_for(blocks * BLOCK, BLOCK)
