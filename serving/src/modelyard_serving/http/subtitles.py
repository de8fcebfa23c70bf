"""Transcripts as subtitles: SubRip, and WebVTT (https://www.w3.org/TR/webvtt1/)."""

from collections.abc import Iterator

from modelyard_serving.tasks.speech import Segment, Transcript


def as_srt(transcript: Transcript) -> str:
    """Numbered pieces with their times."""
    pieces = enumerate(transcript.segments, start=1)
    return "\n".join(f"{number}\n{_times(piece, ',')}\n{_line(piece)}\n" for number, piece in pieces)


def as_vtt(transcript: Transcript) -> str:
    """The same for browsers."""

    def parts() -> Iterator[str]:
        yield "WEBVTT\n"
        for piece in transcript.segments:
            yield f"{_times(piece, '.')}\n{_line(piece)}\n"

    return "\n".join(parts())


def _times(piece: Segment, point: str) -> str:
    return f"{_time(piece.begin, point)} --> {_time(piece.end, point)}"


def _time(seconds: float, point: str) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


def _line(piece: Segment) -> str:
    return piece.text.strip().replace("-->", "->")
