"""Text out of tokens as they come: nothing is shown that a later token could still change or take back."""

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What a decoder writes for bytes that are not a whole character (yet)."""

CONTEXT_TOKENS = 5
"""Tokens of the prompt that the decoder sees before the answer: some decoders drop the first token's space."""


class TokenDecoder:
    """Decodes tokens one by one.

    Only the end of the answer is decoded at each step: from the last place where the text was whole.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int]) -> None:
        self._decode = decode
        self._tokens = list(prompt[-CONTEXT_TOKENS:])
        self._begin = 0
        self._shown = len(self._tokens)

    def push(self, token: int) -> str:
        """The text that this token makes certain, often none."""
        self._tokens.append(token)
        text = self._fresh()
        if not text or text.endswith(REPLACEMENT):
            return ""
        self._begin, self._shown = self._shown, len(self._tokens)
        return text

    def finish(self) -> str:
        """What is left at the end, broken characters included."""
        text = self._fresh()
        self._begin = self._shown = len(self._tokens)
        return text

    def _fresh(self) -> str:
        before = self._decode(self._tokens[self._begin : self._shown])
        return self._decode(self._tokens[self._begin :])[len(before) :]


class StopMatcher:
    """Finds the first of several stop strings in text that comes in pieces, and never shows a part of it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False
        self.after = ""
        """What came with the stop string, behind it."""

    def push(self, text: str) -> str:
        """The text that may be shown now; after a stop string, nothing more."""
        if self.stopped:
            return ""
        self._held += text
        found = [(place, len(stop)) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            place, length = min(found)
            shown, self.after, self._held = self._held[:place], self._held[place + length :], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def finish(self) -> str:
        """What was held back for a stop string that did not come."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
