"""The bytes that single tokens stand for."""

import re
from typing import Any

from modelyard_serving.tasks.text import REPLACEMENT

BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
"""How SentencePiece writes a token that is a byte of a rarer character."""


def _byte_letters() -> dict[str, int]:
    """How byte-level BPE writes bytes as letters: printable ones as themselves, others from U+0100 on (GPT-2)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(plain))
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTE_LETTERS = _byte_letters()


class Vocabulary:
    """Spells tokens, also those that are only a part of a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._spelled: dict[int, bytes] = {}
        # Some decoders drop a text's first space, so no token may stand first.
        self._before: list[int] = tokenizer.encode("a", add_special_tokens=False)

    def spell(self, token: int) -> bytes:
        """The token's bytes; none for a number that is no token."""
        if token not in self._spelled:
            self._spelled[token] = self._spell(token)
        return self._spelled[token]

    def _spell(self, token: int) -> bytes:
        text = self._decode([*self._before, token])[len(self._decode(self._before)) :]
        if REPLACEMENT not in text:
            return text.encode()
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if byte := BYTE_TOKEN.fullmatch(piece):
            return bytes.fromhex(byte[1])
        if all(letter in BYTE_LETTERS for letter in piece):
            return bytes(BYTE_LETTERS[letter] for letter in piece)
        return text.encode()

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=False)
        return text
