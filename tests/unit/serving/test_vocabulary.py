from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.tiny import END
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from modelyard_serving.tasks.vocabulary import Vocabulary

TEXTS = ["grüße aus köln, 東京 und 🦊 land", " the  fox\n", "\ufffd\x00\x7f"]


@pytest.fixture(scope="module")
def byte_level(gpt2: Path) -> Any:
    return AutoTokenizer.from_pretrained(gpt2)


@pytest.fixture(scope="module")
def sentencepiece() -> Any:
    """What Llama 2 and its kin have: words begin with U+2581, rare characters are tokens of bytes."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁fox", "▁the", "ox"]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", clean_up_tokenization_spaces=False)


@given(text=st.text(max_size=20) | st.sampled_from(TEXTS))
def test_spelled_tokens_add_up_to_the_text(byte_level: Any, text: str) -> None:
    vocabulary = Vocabulary(byte_level)
    tokens = byte_level.encode(text, add_special_tokens=False)
    assert b"".join(vocabulary.spell(token) for token in tokens) == text.encode()


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_of_sentencepiece_add_up_too(sentencepiece: Any, text: str) -> None:
    vocabulary = Vocabulary(sentencepiece)
    tokens = sentencepiece.encode(text)
    assert b"".join(vocabulary.spell(token) for token in tokens) == b" " + text.encode()


def test_a_word_has_its_space_and_an_end_token_its_name(sentencepiece: Any, byte_level: Any) -> None:
    of_words = Vocabulary(sentencepiece)
    assert of_words.spell(sentencepiece.convert_tokens_to_ids("▁fox")) == b" fox"
    assert of_words.spell(sentencepiece.convert_tokens_to_ids("<0xE6>")) == b"\xe6"
    assert Vocabulary(byte_level).spell(byte_level.convert_tokens_to_ids(END)) == END.encode()


def test_a_number_beyond_the_tokens_is_nothing(byte_level: Any) -> None:
    """Models have more places for tokens than tokenizers have tokens, for the sake of round sizes."""
    assert Vocabulary(byte_level).spell(len(byte_level) + 3) == b""
