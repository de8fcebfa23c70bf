"""Files of every kind that is taken become the same samples and the same features; others are told why not."""

import struct
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from tests.unit.serving.tiny_whisper import RATE, encoded, tone
from transformers import WhisperFeatureExtractor

from modelyard_serving.tasks import sound
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.log_mel import LogMel
from modelyard_serving.tasks.sound import Abandoned, read_sound

CLIP = tone(1.7)


def _samples(data: bytes) -> Any:
    return np.concatenate(list(read_sound(BytesIO(data), RATE, threading.Event())))


@pytest.mark.parametrize(
    ("form", "settings", "off"),
    [
        ("WAV", {"subtype": "PCM_16"}, 1e-4),
        ("WAV", {"subtype": "FLOAT"}, 0.0),
        ("FLAC", {}, 1e-4),
        ("OGG", {"subtype": "VORBIS"}, 0.03),
        ("MP3", {}, 0.03),
    ],
)
def test_every_container_has_the_same_sound(form: str, settings: dict[str, Any], off: float) -> None:
    found = _samples(encoded(CLIP, form=form, **settings))
    assert len(found) == pytest.approx(len(CLIP), abs=2400)  # mp3 pads to whole frames
    length = min(len(found), len(CLIP))
    assert np.sqrt(np.mean((found[:length] - CLIP[:length]) ** 2)) <= off


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 192_000])
def test_every_rate_becomes_the_model_s(rate: int) -> None:
    times = np.arange(3 * rate) / rate
    found = _samples(encoded(0.5 * np.sin(2 * np.pi * 440 * times), rate=rate, subtype="FLOAT"))
    assert len(found) == pytest.approx(3 * RATE, abs=2)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / RATE)
    inner = slice(RATE // 2, -RATE // 2)
    assert np.abs(found[inner] - wanted[inner]).max() < 0.01


def test_channels_are_mixed() -> None:
    channels = np.stack([CLIP * weight for weight in (0, 0.5, 1.0, 0.2, 0.8, 0.5)], axis=1)
    assert np.abs(_samples(encoded(channels, subtype="FLOAT")) - CLIP / 2).max() < 1e-6


@pytest.mark.parametrize("seconds", [0.1, 0.35, 1.0, 4.9999, 12.3])
def test_the_features_are_those_of_transformers_however_the_sound_comes(seconds: float) -> None:
    extractor = WhisperFeatureExtractor(feature_size=80)
    samples = tone(seconds) * np.linspace(1, 0.001, int(seconds * RATE), dtype=np.float32)
    wanted = extractor(samples, sampling_rate=RATE, truncation=False, padding=False, return_tensors="pt")
    for size in (97, 1600, 70_001):
        pieces = [samples[begin : begin + size] for begin in range(0, len(samples), size)]
        found = LogMel(extractor)(pieces)
        assert found.shape == wanted.input_features[0].shape
        assert (found - wanted.input_features[0]).abs().max() < 1e-4


def _header_of_hours() -> bytes:
    data = bytearray(encoded(CLIP))
    data[4:8] = data[40:44] = struct.pack("<I", 2**32 - 9)
    return bytes(data)


def test_a_header_that_lies_about_the_length_is_not_believed() -> None:
    assert len(_samples(_header_of_hours())) == len(CLIP)


def test_what_is_left_of_a_cut_file_is_heard() -> None:
    assert len(_samples(encoded(CLIP)[: 44 + 2 * 8000])) == 8000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: b"", "cannot be read as wav, flac, mp3 or ogg"),
        (lambda: b"RIFF" + b"\0" * 200, "cannot be read as wav, flac, mp3 or ogg"),
        (lambda: bytes(range(256)) * 20, "cannot be read as wav, flac, mp3 or ogg"),
        (lambda: encoded(CLIP, form="AIFF"), "is AIFF; send wav, flac, mp3 or ogg"),
        (lambda: encoded(CLIP[:0]), "has 0 s of sound; at least 0.1 s"),
        (lambda: encoded(CLIP[:1500]), "has 0.09375 s of sound"),
        (lambda: encoded(CLIP, rate=4_000), "has 4000 samples a second; 8000 to 192000"),
        (lambda: encoded(CLIP, rate=384_000), "has 384000 samples a second"),
        (lambda: encoded(np.zeros((RATE, 9))), "has 9 channels; at most 8"),
        (lambda: encoded(CLIP * np.nan, subtype="FLOAT"), "no numbers"),
        (lambda: encoded(CLIP + 1e9, subtype="FLOAT"), "far beyond full scale"),
        (lambda: encoded(CLIP, form="FLAC")[:60], "cannot be read|has 0 s"),
    ],
)
def test_what_is_no_sound_is_told(data: Callable[[], bytes], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        _samples(data())
    assert caught.value.field == "file"


def test_sound_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_SECONDS", 6)
    data = encoded(np.zeros(20 * RATE), form="FLAC")
    assert len(data) < 10_000
    read: list[int] = []
    with pytest.raises(InvalidInput, match="is longer than 6 s") as caught:
        read.extend(len(piece) for piece in read_sound(BytesIO(data), RATE, threading.Event()))
    assert caught.value.code == "audio_too_long"
    assert sum(read) <= 6 * RATE


def test_nothing_is_read_for_those_who_left() -> None:
    left = threading.Event()
    pieces = read_sound(BytesIO(encoded(np.zeros(20 * RATE))), RATE, left)
    next(pieces)
    left.set()
    with pytest.raises(Abandoned):
        next(pieces)
