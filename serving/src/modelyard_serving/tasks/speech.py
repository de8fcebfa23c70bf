"""Speech recognition: sound in, what is said and when out."""

import asyncio
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from modelyard_serving.engines.dynamic_batching import Item
from modelyard_serving.engines.protocol import QueueFull
from modelyard_serving.engines.speech.window import Heard, SpeechTokens, Window
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.pieces import FRAME_S, split

if TYPE_CHECKING:
    import torch

Listen = Callable[[BinaryIO, threading.Event], "torch.Tensor"]
"""From a file to float32 features (bands, frames); stops with an error once the event is set; blocks."""

SILENT_ABOVE, UNSURE_BELOW = 0.6, -1.0
"""Whisper's own thresholds: a window that is likely silent, and whose text is unlikely, has no text."""
LISTENING = 2
"""Files that are decoded at the same time."""
LEAST_BYTES = 4 * 2**20
"""What a file takes at least while it is decoded."""
ROOM_BYTES = (64 * 2**20, 512 * 2**20)
"""Files and features that are held at the same time: at least, at most."""


@dataclass(frozen=True)
class Languages:
    """The languages of a multilingual model, by code."""

    tokens: Mapping[str, int]
    names: Mapping[str, str]
    transcribe: int
    translate: int


@dataclass(frozen=True)
class Wanted:
    """How a file is to be written down."""

    language: str | None = None
    """A code such as en or a name such as english; None: the model finds out."""
    translate: bool = False
    """Into English."""
    prompt: str = ""
    temperature: float = 0.0


@dataclass(frozen=True)
class Segment:
    """A piece of the text; times in seconds from the file's begin."""

    begin: float
    end: float
    text: str
    tokens: tuple[int, ...]
    window_frame: int
    """Where its window begins, in frames of 10 ms."""
    logprob: float
    no_speech: float
    compression: float
    """Bytes of the window's text by those of the same compressed: high where it repeats itself."""


@dataclass(frozen=True)
class Transcript:
    """What was said."""

    text: str
    language: str
    seconds: float
    segments: tuple[Segment, ...]


class Room:
    """Bytes that requests may hold together."""

    def __init__(self, memory_bytes: int | None) -> None:
        """`memory_bytes` are those that are left for it; None: as many as it likes."""
        least, most = ROOM_BYTES
        self.total = most if memory_bytes is None else min(most, max(least, memory_bytes))
        self._free = self.total

    @contextmanager
    def held(self, amount: int) -> Iterator[None]:
        """So many for the time of the block.

        Raises:
            InvalidInput: there will never be so many.
            QueueFull: there are not so many now.
        """
        if amount > self.total:
            message = f"takes {amount >> 20} MiB, this replica has {self.total >> 20} MiB for sound; send it in parts"
            raise InvalidInput("file", message, code="audio_too_long")
        if amount > self._free:
            raise QueueFull
        self._free -= amount
        try:
            yield
        finally:
            self._free += amount


@dataclass(frozen=True)
class Ears:
    """What belongs to a model beside the engine."""

    listen: Listen
    tokenizer: Any
    tokens: SpeechTokens
    languages: Languages | None
    """None: the model knows only English."""
    frames: int
    """Of a window."""
    prompt_tokens: int
    """So many tokens of a prompt are taken, the last ones."""
    memory_bytes: int | None = None
    """What is left for files and features; None: not limited."""


class SpeechRecognition:
    """A Whisper that writes down what it hears, window after window, each from where the last piece before it ended."""

    def __init__(self, model: BatchedModel[Window, Heard], ears: Ears) -> None:
        self._model = model
        self._ears = ears
        self._tokens = ears.tokens
        self._languages = ears.languages
        self._decoding = asyncio.Semaphore(LISTENING)
        self.room = Room(ears.memory_bytes)

    async def transcribe(self, file: BinaryIO, wanted: Wanted, *, timeout_s: float) -> Transcript:
        """What is said in `file`.

        Raises:
            InvalidInput: the file is no sound that is taken, or the model cannot do what is wanted of it.
            QueueFull, TimeoutError, EngineFailed: as `BatchedModel.run` does.
        """
        language = self._language(wanted)
        before = self._prompt(wanted.prompt)
        async with asyncio.timeout(timeout_s):
            features = await self._features(file)
            with self.room.held(features.nbytes):
                return await self._write_down(features, wanted, language, before, timeout_s)

    async def _write_down(
        self, features: "torch.Tensor", wanted: Wanted, language: str | None, before: tuple[int, ...], timeout_s: float
    ) -> Transcript:
        if self._languages is not None and language is None:
            language = await self._detect(self._languages, features, timeout_s)
        prompt = before + self._opening(language, translate=wanted.translate)
        segments: list[Segment] = []
        place, total = 0, features.shape[1]
        while place < total:
            window = Window(features[:, place : place + self._ears.frames], prompt, wanted.temperature)
            heard = await self._hear(window, timeout_s, first=place == 0)
            frames = window.features.shape[1]
            if heard.no_speech > SILENT_ABOVE and heard.logprob < UNSURE_BELOW:
                place += frames
                continue
            found, ahead = self._segments(heard, place, frames)
            segments += found
            place += ahead
        text = self._text([token for segment in segments for token in segment.tokens])
        named = self._languages.names.get(language or "", language) if self._languages else "english"
        return Transcript(text.strip(), str(named), total * FRAME_S, tuple(segments))

    async def _hear(self, window: Window, timeout_s: float, *, first: bool) -> Heard:
        """Only the first window of a request can find the queue full: what has begun goes on."""
        [heard] = await self._model.run([Item(window, 1)], timeout_s=timeout_s, admitted=not first)
        return heard

    async def _features(self, file: BinaryIO) -> "torch.Tensor":
        abandoned = threading.Event()
        async with self._decoding:
            try:
                return await asyncio.to_thread(self._ears.listen, file, abandoned)
            finally:
                abandoned.set()

    async def _detect(self, languages: Languages, features: "torch.Tensor", timeout_s: float) -> str:
        by_token = {token: code for code, token in languages.tokens.items()}
        window = Window(features[:, : self._ears.frames], (self._tokens.start,), languages=tuple(by_token))
        heard = await self._hear(window, timeout_s, first=True)
        return by_token[heard.tokens[0]]

    def _segments(self, heard: Heard, place: int, frames: int) -> tuple[list[Segment], int]:
        pieces, ahead = split(heard.tokens, self._tokens.timestamps, frames)
        whole = self._text(heard.tokens).encode()
        compression = len(whole) / len(zlib.compress(whole))
        segments = [
            Segment(
                (place + piece.begin) * FRAME_S, (place + piece.end) * FRAME_S, self._text(piece.tokens), piece.tokens,
                place, heard.logprob, heard.no_speech, compression,
            )
            for piece in pieces
        ]  # fmt: skip
        return [segment for segment in segments if segment.text.strip()], ahead

    def _text(self, tokens: Any) -> str:
        said: str = self._ears.tokenizer.decode([token for token in tokens if token < self._tokens.end])
        return said

    def _opening(self, language: str | None, *, translate: bool) -> tuple[int, ...]:
        if self._languages is None or language is None:
            return (self._tokens.start,)
        task = self._languages.translate if translate else self._languages.transcribe
        return (self._tokens.start, self._languages.tokens[language], task)

    def _language(self, wanted: Wanted) -> str | None:
        """The code of the language that is asked for; None: none is."""
        if self._languages is None:
            if wanted.translate:
                raise InvalidInput("model", "writes down English only and cannot translate")
            if wanted.language is not None and wanted.language.lower() not in ("en", "english"):
                raise InvalidInput("language", f"{wanted.language!r} is not known: the model knows only English (en)")
            return None
        if wanted.language is None:
            return None
        code = wanted.language.lower()
        code = next((known for known, name in self._languages.names.items() if name == code), code)
        if code not in self._languages.tokens:
            known = ", ".join(sorted(self._languages.tokens))
            raise InvalidInput("language", f"{wanted.language!r} is not known to the model; it knows {known}")
        return code

    def _prompt(self, text: str) -> tuple[int, ...]:
        """The end of a prompt that fits, after the token that announces it."""
        if not text.strip():
            return ()
        if self._tokens.previous is None:
            raise InvalidInput(
                "prompt", "is not taken by this model: its generation_config.json has no prev_sot_token_id"
            )
        tokens: list[int] = self._ears.tokenizer.encode(" " + text.strip(), add_special_tokens=False)
        if any(token >= self._tokens.end for token in tokens):
            raise InvalidInput("prompt", "has special tokens of the model, such as <|endoftext|>; leave them out")
        return (self._tokens.previous, *tokens[-self._ears.prompt_tokens :])
