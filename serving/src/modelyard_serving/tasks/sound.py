"""From an uploaded file to samples: one channel of float32, at the model's rate, piece by piece."""

import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

from modelyard_serving.tasks.invalid import InvalidInput

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "MP3", "OGG")
RATES = (8_000, 192_000)
MAX_CHANNELS = 8
MIN_SECONDS, MAX_SECONDS = 0.1, 3600
LOUDEST = 1000.0
"""Samples of full scale are at 1; floating point ones may be louder, but not without end."""
BLOCK_S = 5


class Abandoned(Exception):
    """Nobody waits for the sound any more."""


def read_sound(file: BinaryIO, rate: int, abandoned: threading.Event) -> Iterator[Any]:
    """Float32 arrays of mono samples at `rate` Hz, which together are the whole file; blocks.

    What a header says of the length is not believed: what counts is what the file holds.

    Raises:
        InvalidInput: no sound that is understood, none at all, too much, or nothing that could be heard.
        Abandoned: `abandoned` was set.
    """
    try:
        with soundfile.SoundFile(file) as sound:
            _check(sound)
            yield from _resampled(sound, rate, abandoned)
    except soundfile.LibsndfileError as error:
        said = error.error_string.strip().rstrip(".")
        raise InvalidInput("file", f"cannot be read as wav, flac, mp3 or ogg: {said}", code="invalid_audio") from error


def _check(sound: soundfile.SoundFile) -> None:
    if sound.format not in FORMATS:
        raise InvalidInput("file", f"is {sound.format}; send wav, flac, mp3 or ogg", code="invalid_audio")
    if not RATES[0] <= sound.samplerate <= RATES[1]:
        message = f"has {sound.samplerate} samples a second; {RATES[0]} to {RATES[1]} are taken"
        raise InvalidInput("file", message, code="invalid_audio")
    if sound.channels > MAX_CHANNELS:
        message = f"has {sound.channels} channels; at most {MAX_CHANNELS} are taken"
        raise InvalidInput("file", message, code="invalid_audio")


def _resampled(sound: soundfile.SoundFile, rate: int, abandoned: threading.Event) -> Iterator[Any]:
    resampler = None if sound.samplerate == rate else soxr.ResampleStream(sound.samplerate, rate, 1, dtype="float32")
    frames = 0
    while True:
        if abandoned.is_set():
            raise Abandoned
        block = sound.read(BLOCK_S * sound.samplerate, dtype="float32", always_2d=True)
        frames += len(block)
        if frames > MAX_SECONDS * sound.samplerate:
            message = f"is longer than {MAX_SECONDS} s; send it in parts"
            raise InvalidInput("file", message, code="audio_too_long")
        if not (np.abs(block) <= LOUDEST).all():  # NaN compares false
            raise InvalidInput(
                "file", "has samples that are no numbers, or far beyond full scale", code="invalid_audio"
            )
        mono = block.mean(axis=1, dtype=np.float32)
        ends = len(block) == 0
        yield mono if resampler is None else resampler.resample_chunk(mono, last=ends)
        if ends:
            break
    if frames < MIN_SECONDS * sound.samplerate:
        seconds = frames / sound.samplerate
        raise InvalidInput(
            "file", f"has {seconds:g} s of sound; at least {MIN_SECONDS:g} s are needed", code="audio_too_short"
        )
