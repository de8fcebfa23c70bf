"""OpenAI's endpoints for speech: transcriptions and translations."""

import math
from typing import Literal

from pydantic import BaseModel, Field, field_validator
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from modelyard_serving.http.body import ModelRequest, json_answer
from modelyard_serving.http.departure import while_connected
from modelyard_serving.http.record import RequestRecord, record_of
from modelyard_serving.http.subtitles import as_srt, as_vtt
from modelyard_serving.http.upload import read_upload
from modelyard_serving.service import Service
from modelyard_serving.tasks.speech import LEAST_BYTES, SpeechRecognition, Transcript, Wanted

MAX_FILE_BYTES = 25 * 2**20
"""As at OpenAI."""
MAX_BODY_BYTES = MAX_FILE_BYTES + 2**20
Format = Literal["json", "text", "srt", "verbose_json", "vtt"]


class TranslationRequest(ModelRequest):
    """POST /v1/audio/translations, without the file."""

    prompt: str = Field(default="", max_length=10_000)
    response_format: Format = "json"
    temperature: float = Field(default=0.0, ge=0, le=1)
    user: str | None = Field(default=None, max_length=200, description="Written to the request log.")


class TranscriptionRequest(TranslationRequest):
    """POST /v1/audio/transcriptions, without the file."""

    language: str | None = Field(default=None, min_length=2, max_length=32)
    stream: bool = False
    granularities: list[Literal["segment", "word"]] = Field(default=[], alias="timestamp_granularities[]")

    @field_validator("stream")
    @classmethod
    def _whole(cls, value: bool) -> bool:  # noqa: FBT001 - pydantic's signature
        if value:
            raise ValueError("the answer comes as a whole; leave the field out")
        return value

    @field_validator("granularities")
    @classmethod
    def _segments(cls, value: list[str]) -> list[str]:
        if "word" in value:
            raise ValueError("times are those of segments; leave word out")
        return value


class AudioUsage(BaseModel):
    """What was listened to."""

    type: Literal["duration"] = "duration"
    seconds: int


class ShortTranscript(BaseModel):
    """The answer in the format json."""

    text: str
    usage: AudioUsage


class SegmentOut(BaseModel):
    """A piece of the text."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class VerboseTranscript(ShortTranscript):
    """The answer in the format verbose_json."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    segments: list[SegmentOut]


class TranscriptionEndpoints:
    """The endpoints of one service that writes down what it hears."""

    def __init__(self, service: Service, task: SpeechRecognition) -> None:
        self._service = service
        self._task = task
        self.routes = [
            Route("/v1/audio/transcriptions", self.transcribe, methods=["POST"]),
            Route("/v1/audio/translations", self.translate, methods=["POST"]),
        ]

    async def transcribe(self, request: Request) -> Response:
        return await self._answer(request, record_of(request, "audio.transcriptions"), TranscriptionRequest)

    async def translate(self, request: Request) -> Response:
        return await self._answer(request, record_of(request, "audio.translations"), TranslationRequest)

    async def _answer(self, request: Request, record: RequestRecord, kind: type[TranslationRequest]) -> Response:
        config = self._service.config
        told = request.headers.get("content-length", "")
        size = min(int(told), MAX_BODY_BYTES) if told.isdecimal() else MAX_BODY_BYTES
        with self._task.room.held(max(size, LEAST_BYTES)):
            upload = await read_upload(request, config.service, kind, limit=MAX_BODY_BYTES)
            body = upload.body
            record.user = body.user
            language = body.language if isinstance(body, TranscriptionRequest) else None
            wanted = Wanted(language, kind is TranslationRequest, body.prompt, body.temperature)
            transcript = await while_connected(
                request, self._task.transcribe(upload.file, wanted, timeout_s=config.request_timeout_s)
            )
        record.audio_s = transcript.seconds
        record.completion_tokens = sum(len(segment.tokens) for segment in transcript.segments)
        return _written(transcript, wanted, body.response_format)


def _written(transcript: Transcript, wanted: Wanted, form: Format) -> Response:
    usage = AudioUsage(seconds=math.ceil(transcript.seconds))
    match form:
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case "srt":
            return PlainTextResponse(as_srt(transcript))
        case "vtt":
            return PlainTextResponse(as_vtt(transcript), media_type="text/vtt")
        case "json":
            return json_answer(ShortTranscript(text=transcript.text, usage=usage))
        case "verbose_json":
            return json_answer(VerboseTranscript(
                text=transcript.text, usage=usage, task="translate" if wanted.translate else "transcribe",
                language="english" if wanted.translate else transcript.language, duration=transcript.seconds,
                segments=[
                    SegmentOut(
                        id=number, seek=piece.window_frame, start=round(piece.begin, 2), end=round(piece.end, 2),
                        text=piece.text, tokens=list(piece.tokens), temperature=wanted.temperature,
                        avg_logprob=piece.logprob, compression_ratio=piece.compression,
                        no_speech_prob=piece.no_speech,
                    )
                    for number, piece in enumerate(transcript.segments)
                ],
            ))  # fmt: skip
