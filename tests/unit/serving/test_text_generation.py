from typing import Any

import pytest
from jinja2 import TemplateError
from tests.unit.serving.fake_engine import FakeEngine

from modelyard_serving.engines.protocol import Ending, EngineFailed, FinishReason, Sampling
from modelyard_serving.tasks.answer import SpelledToken, TextPiece, TextRequest
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.text_generation import TextGeneration


class ByteTokenizer:
    """Bytes are tokens; 0 is special."""

    chat_template = "yes"

    def __len__(self) -> int:
        return 256

    def encode(self, text: str, **_: Any) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        return bytes(token for token in tokens if token or not skip_special_tokens).decode(errors="replace")

    def convert_ids_to_tokens(self, token: int) -> str:
        return f"<0x{token:02X}>"

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> list[int]:
        if messages[0]["role"] == "assistant":
            raise TemplateError("begin with user")
        return self.encode(messages[0]["content"])


def _request(**changes: Any) -> TextRequest:
    settings: dict[str, Any] = {
        "prompt": (1, 2, 3), "max_tokens": 5, "max_tokens_field": "max_tokens", "prompt_field": "prompt",
        "sampling": Sampling(), "ending": Ending(),
    }  # fmt: skip
    return TextRequest(**settings | changes)


async def _pieces(engine: FakeEngine, **changes: Any) -> list[TextPiece]:
    answer = TextGeneration(engine, ByteTokenizer()).answer(_request(**changes))
    return [piece async for piece in answer]


async def test_pieces_carry_text_and_count() -> None:
    pieces = await _pieces(FakeEngine(list("aäb".encode())))
    assert pieces == [TextPiece("a", 1), TextPiece("ä", 3), TextPiece("b", 4, FinishReason.LENGTH)]


async def test_an_end_token_stands_for_no_text_but_counts() -> None:
    pieces = await _pieces(FakeEngine([*b"ab", 0], FinishReason.STOP))
    assert pieces == [TextPiece("a", 1), TextPiece("b", 2), TextPiece("", 3, FinishReason.STOP)]


async def test_half_a_character_at_the_end_is_not_lost() -> None:
    pieces = await _pieces(FakeEngine([ord("a"), 0xC3, 0], FinishReason.STOP))
    assert "".join(piece.text for piece in pieces) == "a\ufffd"


async def test_a_stop_string_across_tokens_ends_the_answer_before_it() -> None:
    pieces = await _pieces(FakeEngine(list(b"one\nEND two")), stops=("\nEND",))
    assert "".join(piece.text for piece in pieces) == "one"
    assert pieces[-1] == TextPiece("", 7, FinishReason.STOP)


async def test_an_unfinished_stop_string_belongs_to_the_text() -> None:
    pieces = await _pieces(FakeEngine(list(b"one\nEN")), stops=("\nEND",))
    assert "".join(piece.text for piece in pieces) == "one\nEN"
    assert pieces[-1].finish is FinishReason.LENGTH


async def test_a_stop_string_in_what_must_come_ends_nothing() -> None:
    pieces = await _pieces(FakeEngine(list(b"END one END two")), stops=("END",), ending=Ending(min_tokens=3))
    assert "".join(piece.text for piece in pieces) == "END one "


async def test_an_end_token_that_ends_nothing_stands_for_no_text_either() -> None:
    pieces = await _pieces(FakeEngine([*b"a", 0, *b"b"]))
    assert "".join(piece.text for piece in pieces) == "ab"
    assert pieces[-1].tokens == 3


async def test_choices_have_their_own_text_and_one_count() -> None:
    pieces = await _pieces(FakeEngine(list("äb".encode())), choices=2)
    assert pieces == [
        TextPiece("ä", 3, choice=0),
        TextPiece("ä", 4, choice=1),
        TextPiece("b", 5, FinishReason.LENGTH, 0),
        TextPiece("b", 6, FinishReason.LENGTH, 1),
    ]


async def test_a_stop_string_ends_its_own_choice_alone() -> None:
    engine = FakeEngine(list(b"xENDyz"))
    answer = TextGeneration(engine, ByteTokenizer()).answer(_request(stops=("END",), choices=2))
    engine.generations[0].other[1] = list(b"xENyyz")
    pieces = [piece async for piece in answer]
    texts = ["".join(piece.text for piece in pieces if piece.choice == choice) for choice in range(2)]
    assert texts == ["x", "xENyyz"]
    assert [(piece.choice, piece.finish) for piece in pieces if piece.finish] == [
        (0, FinishReason.STOP),
        (1, FinishReason.LENGTH),
    ]
    assert engine.generations[0].cancelled[0] == 0
    assert pieces[-1].tokens == 4 + 6


async def _scored(engine: FakeEngine, **changes: Any) -> list[tuple[str, list[tuple[bytes, int]]]]:
    pieces = await _pieces(engine, logprobs=1, **changes)
    assert all(token.top[0] == SpelledToken(b"?", -0.5) for piece in pieces for token in piece.scored)
    return [(piece.text, [(token.chosen.spelled, token.offset) for token in piece.scored]) for piece in pieces]


async def test_tokens_come_scored_with_the_text_that_they_begin() -> None:
    assert await _scored(FakeEngine([*"aäb".encode(), 0], FinishReason.STOP)) == [
        ("a", [(b"a", 0)]),
        ("ä", [(b"\xc3", 1), (b"\xa4", 1)]),
        ("b", [(b"b", 2)]),
        ("", []),
    ]


async def test_tokens_of_a_stop_string_are_not_scored_and_tokens_without_text_are() -> None:
    assert await _scored(FakeEngine(list(b"abENDc")), stops=("END",)) == [
        ("a", [(b"a", 0)]),
        ("b", [(b"b", 1)]),
        ("", []),
    ]
    assert await _scored(FakeEngine(list(b"aEN")), stops=("END",)) == [
        ("a", [(b"a", 0)]),
        ("EN", [(b"E", 1), (b"N", 2)]),
    ]
    assert await _scored(FakeEngine([*b"a", 0])) == [("a", [(b"a", 0)]), ("", [(b"\x00", 1)])]


async def test_the_deadline_ends_an_answer_that_does_not() -> None:
    answer = TextGeneration(FakeEngine([97, 98], None), ByteTokenizer()).answer(_request(timeout_s=0.01))
    pieces = aiter(answer)
    assert await anext(pieces) == TextPiece("a", 1)
    with pytest.raises(TimeoutError):
        await anext(pieces)


async def test_without_a_limit_the_answer_may_fill_the_context() -> None:
    engine = FakeEngine([97])
    await _pieces(engine, max_tokens=None)
    assert engine.requests[0].max_tokens == engine.context_length - 3


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"prompt": ()}, "prompt", "the prompt is empty"),
        ({"prompt": (1,) * 20}, "prompt", "20 tokens, 1 too many: the context has 20"),
        ({"prompt": (1,) * 27}, "prompt", "27 tokens, 8 too many"),
        (
            {"max_tokens": 18},
            "max_tokens",
            "18 is 1 too many: the prompt has 3 of the context's 20 tokens, so at most 17",
        ),
        ({"ending": Ending(min_tokens=6)}, "min_tokens", "6 is more than the 5 tokens that the answer may have"),
        ({"max_tokens": None, "ending": Ending(min_tokens=18)}, "min_tokens", "more than the 17 tokens"),
    ],
)
async def test_what_does_not_fit_is_refused_by_field_and_number(
    changes: dict[str, Any], field: str, words: str
) -> None:
    engine = FakeEngine([97])
    with pytest.raises(InvalidInput, match=words) as caught:
        await _pieces(engine, **changes)
    assert caught.value.field == field
    assert engine.requests == []


async def test_a_refusing_chat_template_blames_the_messages() -> None:
    text = TextGeneration(FakeEngine(), ByteTokenizer())
    assert await text.chat_prompt([{"role": "user", "content": "hi"}]) == (104, 105)
    with pytest.raises(InvalidInput, match="begin with user") as caught:
        await text.chat_prompt([{"role": "assistant", "content": "hi"}])
    assert caught.value.field == "messages"


async def test_tokens_outside_the_vocabulary_are_refused() -> None:
    text = TextGeneration(FakeEngine(), ByteTokenizer())
    assert text.check_tokens([0, 255], "prompt") == (0, 255)
    with pytest.raises(InvalidInput, match="256 is no token: the model has 0 to 255"):
        text.check_tokens([1, 256], "stop_token_ids")


async def test_a_proof_is_an_urgent_request_of_a_few_tokens() -> None:
    engine = FakeEngine([1, 2, 3, 4])
    tokens, seconds = await TextGeneration(engine, ByteTokenizer()).prove(1.0)
    assert tokens == 4
    assert 0 < seconds < 1
    assert engine.requests[0].urgent
    assert engine.generations[0].cancelled


async def test_a_proof_takes_no_longer_than_its_time() -> None:
    engine = FakeEngine([1, 2], None)
    with pytest.raises(TimeoutError):
        await TextGeneration(engine, ByteTokenizer()).prove(0.01)
    assert engine.generations[0].cancelled


async def test_a_proof_fails_with_the_engine() -> None:
    with pytest.raises(EngineFailed, match="broken"):
        await TextGeneration(FakeEngine([1], EngineFailed("broken")), ByteTokenizer()).prove(1.0)
