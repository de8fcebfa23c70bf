"""Speech recognition against transformers' own long-form generation, alone and in batches."""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import torch
from tests.unit.serving.tiny import config_for
from tests.unit.serving.tiny_encoder import write_encoder
from tests.unit.serving.tiny_whisper import RATE, encoded, tone, write_whisper
from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

from modelyard_serving.contract import EngineConfig, ModelConfig, Proof, ReplicaConfig, Task
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine
from modelyard_serving.engines.speech.transcriber import Transcriber
from modelyard_serving.engines.speech.window import Heard, Window
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.replica import Replica
from modelyard_serving.tasks import speech

MODEL = "team-a/tiny"
LENGTHS = (0.35, 2.6, 7.9)


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("models") / "english")


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("models") / "multilingual", multilingual=True, seed=5)


@asynccontextmanager
async def _serving(folder: Path, **changes: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    replica = Replica(Journal.open())
    await replica.configure(config_for(folder, **changes))
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(replica, raise_app_exceptions=False))
    async with openai.AsyncOpenAI(
        base_url="http://replica/v1", api_key="none", http_client=http, max_retries=0
    ) as client:
        yield client
    await asyncio.to_thread(replica.close)


def _generated(folder: Path, samples: Any, prompt: str = "", **settings: Any) -> Any:
    """Tokens of each segment with its begin and end, by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    features = extractor(
        samples, sampling_rate=RATE, truncation=False, padding=False, return_tensors="pt"
    ).input_features
    if prompt:
        tokens = tokenizer.encode(" " + prompt, add_special_tokens=False)
        settings["prompt_ids"] = torch.tensor([model.generation_config.prev_sot_token_id, *tokens])
    with torch.inference_mode():
        found = model.generate(
            features, return_timestamps=True, return_segments=True, temperature=0.0, no_speech_threshold=0.6,
            logprob_threshold=-1.0, **settings,
        )  # fmt: skip
    end = model.generation_config.eos_token_id
    pieces = []
    for segment in found["segments"][0]:
        text = tokenizer.decode([token for token in segment["tokens"].tolist() if token < end])
        if text.strip():
            pieces.append((round(float(segment["start"]), 2), round(float(segment["end"]), 2), text))
    return pieces


def _text(log: Path) -> str:
    return log.read_text()


async def _pieces(client: openai.AsyncOpenAI, samples: Any, **fields: Any) -> Any:
    answer = await client.audio.transcriptions.create(
        model=MODEL, file=("a.wav", encoded(samples, subtype="FLOAT")), response_format="verbose_json", **fields
    )
    return [(segment.start, segment.end, segment.text) for segment in answer.segments or []]


async def test_the_text_and_its_times_are_those_of_transformers(english: Path, log: Path) -> None:
    clips = [tone(seconds, seed=number) for number, seconds in enumerate(LENGTHS)]
    async with _serving(english) as client:
        alone = [await _pieces(client, clip) for clip in clips]
        together = await asyncio.gather(*(_pieces(client, clip) for clip in clips))
        told = await asyncio.gather(
            *(_pieces(client, clip, prompt="the wood") for clip in clips[:2]), _pieces(client, clips[2])
        )
    wanted = [_generated(english, clip) for clip in clips]
    assert alone == wanted
    assert together == wanted
    assert told == [*(_generated(english, clip, "the wood") for clip in clips[:2]), wanted[2]]
    assert len(wanted[2]) > 3


async def test_languages_are_found_asked_for_and_translated(multilingual: Path, log: Path) -> None:
    clip = tone(1.6, seed=8)
    async with _serving(multilingual) as client:
        found = await client.audio.transcriptions.create(
            model=MODEL, file=("a.wav", encoded(clip, subtype="FLOAT")), response_format="verbose_json"
        )
        german = await _pieces(client, clip, language="German")
        chinese = await _pieces(client, clip, language="zh")
        with pytest.deprecated_call():  # by its client; the API has it
            translated: Any = await client.audio.translations.create(
                model=MODEL, file=("a.wav", encoded(clip, subtype="FLOAT")), response_format="verbose_json"
            )
        with pytest.raises(
            openai.BadRequestError, match="language: 'fr' is not known to the model; it knows de, en, zh"
        ):
            await _pieces(client, clip, language="fr")
    model = WhisperForConditionalGeneration.from_pretrained(multilingual).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(multilingual)
    features = extractor(clip, sampling_rate=RATE, return_tensors="pt").input_features
    token = int(model.detect_language(features)[0])
    code = next(code.strip("<|>") for code, number in model.generation_config.lang_to_id.items() if number == token)
    assert found.language == {"en": "english", "de": "german", "zh": "chinese"}[code]
    pieces = [(segment.start, segment.end, segment.text) for segment in found.segments or []]
    assert pieces == _generated(multilingual, clip, language=code, task="transcribe")
    assert german == _generated(multilingual, clip, language="de", task="transcribe")
    assert chinese == _generated(multilingual, clip, language="zh", task="transcribe")
    pieces = [(segment.start, segment.end, segment.text) for segment in translated.segments]
    assert pieces == _generated(multilingual, clip, language=code, task="translate")
    assert (translated.task, translated.language) == ("translate", "english")


async def test_every_format_has_the_same_text(english: Path, log: Path) -> None:
    file = ("a.flac", encoded(tone(4.2, seed=2), form="FLAC"))

    async with _serving(english) as client:
        create = client.audio.transcriptions.create
        plain: Any = await create(model=MODEL, file=file)
        text = await create(model=MODEL, file=file, response_format="text")
        srt = await create(model=MODEL, file=file, response_format="srt")
        vtt = await create(model=MODEL, file=file, response_format="vtt")
        verbose = await create(
            model=MODEL, file=file, response_format="verbose_json", timestamp_granularities=["segment"], language="en"
        )
    assert verbose.segments
    assert verbose.text == "".join(segment.text for segment in verbose.segments).strip() == plain.text
    assert text == plain.text + "\n"
    assert (verbose.duration, verbose.language) == (4.2, "english")
    assert (plain.usage.type, plain.usage.seconds) == ("duration", 5)
    first = verbose.segments[0]
    assert (first.id, first.seek, first.temperature) == (0, 0, 0.0)
    assert first.avg_logprob < 0 <= first.no_speech_prob < 1
    assert first.compression_ratio > 0.2
    line = first.text.strip().replace("-->", "->")
    span = f"00:00:0{first.start:.3f} --> 00:00:0{first.end:.3f}"
    assert srt.startswith("1\n" + span.replace(".", ",") + f"\n{line}\n")
    assert vtt.startswith(f"WEBVTT\n\n{span}\n{line}\n")
    assert srt.count(" --> ") == vtt.count(" --> ") == len(verbose.segments)


async def test_a_temperature_draws_what_else_could_be_heard(english: Path, log: Path) -> None:
    clip = tone(1.5, seed=4)
    async with _serving(english) as client:
        greedy = {str(await _pieces(client, clip, temperature=0)) for _ in range(3)}
        drawn = {str(await _pieces(client, clip, temperature=1)) for _ in range(6)}
    assert len(greedy) == 1
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "team-b/other"}, 404, "model: there is no 'team-b/other' here"),
        ({"language": "de"}, 400, "language: 'de' is not known: the model knows only English"),
        ({"temperature": "1.5"}, 400, "temperature: Input should be less than or equal to 1"),
        (
            {"response_format": "doc"},
            400,
            "response_format: Input should be 'json', 'text', 'srt', 'verbose_json' or 'vtt'",
        ),
        ({"stream": "true"}, 400, "stream: the answer comes as a whole"),
        ({"timestamp_granularities[]": "word"}, 400, "times are those of segments; leave word out"),
        ({"prompt": "now <|endoftext|> then"}, 400, "prompt: has special tokens of the model"),
        ({"prompt": "x" * 10_001}, 400, "prompt: String should have at most 10000 characters"),
        ({"chunking_strategy": "auto"}, 400, "chunking_strategy: this server does not support the field"),
        ({"prompt": "x" * 70_000}, 400, "no valid multipart/form-data: Part exceeded maximum size of 64KB"),
        ({"temperature": ["0", "1"]}, 400, "temperature: is there more than once"),
    ],
)
async def test_each_wrong_field_is_told(
    english: Path, log: Path, fields: dict[str, Any], status: int, words: str, waiting: httpx2.AsyncClient
) -> None:
    sent = {"model": MODEL} | fields
    answer = await waiting.post("/v1/audio/transcriptions", data=sent, files={"file": ("a.wav", encoded(tone(0.5)))})
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), answer.text


@pytest.fixture
async def waiting(english: Path, log: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the English model."""
    replica = Replica(Journal.open())
    await replica.configure(config_for(english, engine=EngineConfig(max_running=1, max_queued=0)))
    transport = httpx2.ASGITransport(replica, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://replica") as client:
        yield client
    await asyncio.to_thread(replica.close)


async def test_each_wrong_body_is_told(waiting: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = encoded(tone(0.5))

    async def told(status: int, **sent: Any) -> str:
        answer = await waiting.post("/v1/audio/transcriptions", **sent)
        assert answer.status_code == status, answer.text
        message: str = answer.json()["error"]["message"]
        return message

    fields = {"model": MODEL}
    assert "must be multipart/form-data" in await told(400, json=fields)
    assert "file: is missing" in await told(400, data=fields, files={"other": (None, "x")})
    assert "sound: is a file; the sound goes into the field file" in await told(
        400, data=fields, files={"sound": ("a", clip)}
    )
    assert "Too many files" in await told(400, data=fields, files=[("file", ("a", clip)), ("file", ("b", clip))])
    assert "model: Field required" in await told(400, files={"file": ("a.wav", clip)})
    assert "file: cannot be read as wav" in await told(400, data=fields, files={"file": ("a.wav", b"no sound")})
    cut = {"content": b"--x\r\nContent-Disp", "headers": {"content-type": "multipart/form-data; boundary=x"}}
    assert "file: is missing" in await told(400, **cut)
    assert "no valid multipart" in await told(400, content=b"", headers={"content-type": "multipart/form-data"})
    large = {"file": ("a.wav", bytes(27 * 2**20))}
    assert "the body is larger than 27262976 bytes" in await told(413, data=fields, files=large)
    answer = await waiting.post("/v1/audio/translations", data=fields, files={"file": ("a.wav", clip)})
    assert (answer.status_code, "English only and cannot translate" in answer.text) == (400, True)


async def test_a_body_without_end_is_left_where_it_is_too_large(waiting: httpx2.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for sent in range(60):  # noqa: B007 - read below
            yield bytes(2**20)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await waiting.post("/v1/audio/transcriptions", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert sent < 30


async def test_the_platform_sees_what_it_does(waiting: httpx2.AsyncClient, log: Path) -> None:
    sent: dict[str, Any] = {"data": {"model": MODEL}, "files": {"file": ("a.wav", encoded(tone(1.25)))}}
    answer = await waiting.post("/v1/audio/transcriptions", **sent)
    assert answer.status_code == 200
    proof = Proof.model_validate_json((await waiting.get("/-/prove")).text)
    assert proof.tokens == 4
    metrics = (await waiting.get("/-/metrics")).text
    assert 'modelyard_audio_seconds_total{revision="0123abcd",service="team-a/tiny"} 1.25' in metrics
    lines = _text(log)
    assert '"audio_s": 1.25' in lines
    assert '"endpoint": "audio.transcriptions"' in lines
    assert answer.json()["text"] not in lines


async def test_what_has_begun_goes_on_and_what_comes_too_much_is_refused(
    english: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One place and none to wait: a long file keeps it through all its windows."""
    turn, first = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    computed, submitted = Transcriber.__call__, DynamicBatchingEngine.submit
    admitted: list[bool] = []

    def submit(engine: Any, items: Any, **how: bool) -> Any:
        job = submitted(engine, items, **how)
        admitted.append(how["admitted"])
        return job

    def held(self: Transcriber, windows: Sequence[Window]) -> list[Heard]:
        loop.call_soon_threadsafe(turn.set)
        assert first.wait(30)
        return computed(self, windows)

    async with _serving(english, engine=EngineConfig(max_running=1, max_queued=0)) as client:
        monkeypatch.setattr(Transcriber, "__call__", held)
        monkeypatch.setattr(DynamicBatchingEngine, "submit", submit)
        long = asyncio.ensure_future(_pieces(client, tone(7.9, seed=3)))
        await turn.wait()
        with pytest.raises(openai.RateLimitError, match="queue is full"):
            await _pieces(client, tone(0.5))
        first.set()
        assert len(await long) > 3
    assert admitted[:3] == [False, True, True]


async def test_files_are_refused_before_they_are_read_where_memory_ends(
    english: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "ROOM_BYTES", (0, speech.LEAST_BYTES + 2**20))
    async with _serving(english) as client:
        answers = await asyncio.gather(
            *(_pieces(client, tone(3, seed=number)) for number in range(3)), return_exceptions=True
        )
        assert [type(answer) for answer in answers].count(openai.RateLimitError) == 2
        assert await _pieces(client, tone(0.5)) is not None


async def test_what_will_never_fit_is_told(english: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "ROOM_BYTES", (0, speech.LEAST_BYTES))
    quiet = encoded(np.zeros(700 * RATE), form="FLAC")
    async with _serving(english) as client:
        with pytest.raises(openai.BadRequestError, match="file: takes 4 MiB, this replica has 4 MiB for sound"):
            await client.audio.transcriptions.create(model=MODEL, file=("a.flac", quiet))


async def test_who_leaves_frees_the_place(english: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows_heard = 0
    computed = Transcriber.__call__
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def counted(self: Transcriber, windows: Sequence[Window]) -> list[Heard]:
        nonlocal windows_heard
        windows_heard += 1
        loop.call_soon_threadsafe(begun.set)
        return computed(self, windows)

    async with _serving(english, engine=EngineConfig(max_running=1, max_queued=1)) as client:
        monkeypatch.setattr(Transcriber, "__call__", counted)
        await _pieces(client, tone(20, seed=3))
        whole, windows_heard = windows_heard, 0
        begun.clear()
        leaving = asyncio.ensure_future(_pieces(client, tone(20, seed=3)))
        await begun.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await _pieces(client, tone(0.5))
    assert windows_heard < whole / 2
    assert _text(log).count('"status": 499') == 1


async def test_a_folder_that_does_not_fit_is_told(tmp_path: Path, english: Path, log: Path) -> None:
    async def told(name: str, content: dict[str, Any]) -> str:
        folder = tmp_path / name
        shutil.copytree(english, folder, dirs_exist_ok=True)
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | content))
        with pytest.raises(StartFailure) as failure:
            await Replica(Journal.open()).configure(config_for(folder))
        shutil.rmtree(folder)
        return failure.value.message

    assert "no no_timestamps_token_id" in await told("generation_config.json", {"no_timestamps_token_id": None})
    assert "has 80 mel bands, config.json 16" in await told("preprocessor_config.json", {"feature_size": 80})
    assert "is served by WhisperForConditionalGeneration" in await _told_other_task(tmp_path)


async def _told_other_task(tmp_path: Path) -> str:
    folder = write_encoder(tmp_path / "bert")
    model = ModelConfig(uri="pvc://models/tiny", path=str(folder), task=Task.AUTOMATIC_SPEECH_RECOGNITION)
    config = ReplicaConfig(service=MODEL, revision="0123abcd", threads=1, model=model)
    with pytest.raises(StartFailure) as failure:
        await Replica(Journal.open()).configure(config)
    return failure.value.message
