"""Writes down a batch of windows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from modelyard_serving.engines.speech.network import Memory, WhisperNetwork
from modelyard_serving.engines.speech.rules import TokenRules
from modelyard_serving.engines.speech.window import Heard, SpeechTokens, Window


@dataclass
class _Row:
    """A window while it is written down."""

    window: Window
    room: int
    """So many tokens may be made."""
    made: list[int] = field(default_factory=list)
    logprob: float = 0.0
    no_speech: float = 0.0


class Transcriber:
    """What the dynamic batching engine computes: windows in, tokens out."""

    def __init__(self, network: WhisperNetwork, tokens: SpeechTokens, *, vocabulary: int, max_length: int) -> None:
        """`max_length` is the model's own limit of a window's tokens beside its prompt."""
        self._network = network
        self._rules = TokenRules(tokens, vocabulary, network.device)
        self._tokens = tokens
        self._max_length = max_length

    def __call__(self, windows: Sequence[Window]) -> list[Heard]:
        """As many as there are windows; what comes of one does not depend on the others.

        Raises:
            ArithmeticError: the model computes no numbers.
        """
        rows = [_Row(window, self._room(window)) for window in windows]
        with torch.inference_mode():
            logits, memory = self._begin(rows)
            self._go_on(rows, logits, memory)
        return [self._heard(row) for row in rows]

    def _begin(self, rows: Sequence[_Row]) -> tuple[torch.Tensor, Memory]:
        """Take in the sound and the prompts; the logits of each row's first token."""
        network, tokens = self._network, self._tokens
        longest = max(len(row.window.prompt) for row in rows)
        fillers = [longest - len(row.window.prompt) for row in rows]
        padding = torch.tensor(fillers, device=network.device)
        encoded = network.encode(self._features(rows))
        memory = network.remember(encoded, longest + max(row.room for row in rows), padding)
        filled = [[tokens.end] * count + list(row.window.prompt) for count, row in zip(fillers, rows, strict=True)]
        hidden = network.read(torch.tensor(filled, device=network.device), memory)
        # Whether somebody speaks, and in which language, is told where the start token has been read.
        starts = [before.index(tokens.start, count) for before, count in zip(filled, fillers, strict=True)]
        opening = network.logits(hidden[torch.arange(len(rows), device=network.device), starts])
        silence = opening.softmax(-1)[:, tokens.no_speech].tolist()
        for row, scores, no_speech in zip(rows, opening, silence, strict=True):
            row.no_speech = no_speech
            if row.window.languages:
                row.made = [row.window.languages[int(scores[list(row.window.languages)].argmax())]]
        return opening if starts == [longest - 1] * len(rows) else network.logits(hidden[:, -1]), memory

    def _go_on(self, rows: Sequence[_Row], logits: torch.Tensor, memory: Memory) -> None:
        """Token after token until each row has its end; a row that has it is computed no more."""
        live = list(rows)
        while True:
            going = [place for place, row in enumerate(live) if self._goes_on(row)]
            if not going:
                return
            if len(going) < len(live):
                live = [live[place] for place in going]
                kept = torch.tensor(going, device=logits.device)
                logits = logits.index_select(0, kept)
                memory.keep(kept)
            if live[0].made:
                last = torch.tensor([[row.made[-1]] for row in live], device=logits.device)
                logits = self._network.logits(self._network.read(last, memory)[:, -1])
            temperatures = [row.window.temperature for row in live]
            chosen, logprobs = self._rules.choose(logits, [row.made for row in live], temperatures)
            for row, token, logprob in zip(live, chosen, logprobs, strict=True):
                row.made.append(token)
                row.logprob += logprob

    def _goes_on(self, row: _Row) -> bool:
        return len(row.made) < row.room and (not row.made or row.made[-1] != self._tokens.end)

    def _heard(self, row: _Row) -> Heard:
        if not math.isfinite(row.logprob) or not math.isfinite(row.no_speech):
            raise ArithmeticError("the model computes no numbers (NaN or infinity) for this sound")
        ended = row.made[-1:] == [self._tokens.end]
        return Heard(tuple(row.made[:-1] if ended else row.made), row.logprob / max(1, len(row.made)), row.no_speech)

    def _room(self, window: Window) -> int:
        if window.languages:
            return 0
        prompt, positions = len(window.prompt), self._network.positions
        room = min(self._max_length + min(prompt, positions // 2 - 1), positions) - prompt
        return room if window.max_tokens is None else min(room, window.max_tokens)

    def _features(self, rows: Sequence[_Row]) -> torch.Tensor:
        frames = self._network.frames
        whole = [
            torch.nn.functional.pad(row.window.features, (0, frames - row.window.features.shape[1])) for row in rows
        ]
        return torch.stack(whole)
