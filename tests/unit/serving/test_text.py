from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_serving.tasks.text import StopMatcher, TokenDecoder


def _bytes(tokens: list[int]) -> str:
    """A tokenizer of bytes: the hardest case for characters that span tokens."""
    return bytes(tokens).decode(errors="replace")


def _words(tokens: list[int]) -> str:
    """A tokenizer that, like SentencePiece, drops the space before the first word."""
    return "".join(f" w{token}" for token in tokens).removeprefix(" ")


@pytest.mark.parametrize("decode", [_bytes, _words])
@given(tokens=st.lists(st.integers(0, 255)), prompt=st.lists(st.integers(0, 127), min_size=1, max_size=8))
def test_pieces_add_up_to_the_whole_text(
    decode: Callable[[list[int]], str], tokens: list[int], prompt: list[int]
) -> None:
    decoder = TokenDecoder(decode, prompt)
    streamed = "".join(decoder.push(token) for token in tokens) + decoder.finish()
    assert streamed == decode(prompt + tokens)[len(decode(prompt)) :]


def test_half_a_character_is_not_shown() -> None:
    decoder = TokenDecoder(_bytes, [])
    assert [decoder.push(byte) for byte in "ä🦊".encode()] == ["", "ä", "", "", "", "🦊"]


def test_a_broken_end_is_shown_as_broken() -> None:
    decoder = TokenDecoder(_bytes, [])
    assert [decoder.push(ord("a")), decoder.push(0xF0), decoder.finish()] == ["a", "", "\ufffd"]


@given(st.lists(st.text("ab\n", max_size=3)), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3))
def test_text_ends_before_the_first_stop_string_however_it_is_cut(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = []
    for piece in pieces:
        shown.append(matcher.push(piece))
        if matcher.stopped:
            break
    text = "".join(shown) + matcher.finish()
    whole = "".join(pieces)
    assert matcher.stopped == any(stop in whole for stop in stops)
    assert not any(stop in text for stop in stops)
    assert whole.startswith(text) if matcher.stopped else text == whole


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_clear() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert [matcher.push("yes\n"), matcher.push("\nUs"), matcher.push("e"), matcher.finish()] == [
        "yes",
        "",
        "",
        "\n\nUse",
    ]
    matcher = StopMatcher(["\n\nUser:"])
    assert [matcher.push("yes\n"), matcher.push("\nUser: hi"), matcher.finish()] == ["yes", "", ""]
    assert matcher.stopped
