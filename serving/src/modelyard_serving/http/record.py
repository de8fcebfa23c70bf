"""What one request leaves behind: a line in the journal and its share of the metrics."""

import time
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard_serving.journal import Journal
from modelyard_serving.metrics import ReplicaMetrics

CANCELLED_STATUS = 499
"""Nginx's number for a client that went away before the answer."""


@dataclass
class RequestRecord:
    """Filled by the endpoint while the request runs; numbers only, never content."""

    endpoint: str = "other"
    request_id: str = ""
    user: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    audio_s: float = 0.0
    """Seconds of sound that were listened to."""
    first_token_s: float | None = None
    last_token_s: float | None = None
    finish: str | None = None
    """Why the answer ended; of several choices each one's reason, in the order of their ends."""
    error: str | None = None
    began: float = field(default_factory=time.monotonic)

    def tokens(self, made: int) -> None:
        """So many tokens of the answer are there now."""
        if made:
            self.last_token_s = time.monotonic() - self.began
            if self.first_token_s is None:
                self.first_token_s = self.last_token_s
        self.completion_tokens = made

    def times(self) -> tuple[float, float] | None:
        """Seconds to the first token and to the last; None where there was none."""
        if self.first_token_s is None or self.last_token_s is None:
            return None
        return self.first_token_s, self.last_token_s

    def ended(self, reason: str) -> None:
        """A choice is complete."""
        self.finish = reason if self.finish is None else f"{self.finish},{reason}"


def record_of(request: Request, endpoint: str) -> RequestRecord:
    """The record of a request to this endpoint."""
    record: RequestRecord = request.scope["modelyard.record"]
    record.endpoint = endpoint
    return record


class Recording:
    """ASGI middleware that gives every request its record and writes it down in the end."""

    def __init__(self, app: ASGIApp, journal: Journal, metrics: ReplicaMetrics) -> None:
        self._app = app
        self._journal = journal
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        record = RequestRecord(request_id=headers.get(b"x-request-id", b"").decode("latin-1"))
        scope["modelyard.record"] = record
        status, complete = 500, False

        async def send_and_note(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._write(record, scope["method"], status if complete else CANCELLED_STATUS)

    def _write(self, record: RequestRecord, method: str, status: int) -> None:
        seconds = time.monotonic() - record.began
        self._metrics.request_done(record.endpoint, status, seconds)
        self._metrics.tokens_done(record.endpoint, record.prompt_tokens, record.completion_tokens, record.times())
        self._metrics.audio_done(record.audio_s)
        self._journal.write(
            "request", level="error" if status >= 500 else "info", id=record.request_id or None, method=method,
            endpoint=record.endpoint, status=status, seconds=round(seconds, 4), user=record.user,
            first_token_s=record.first_token_s and round(record.first_token_s, 4),
            prompt_tokens=record.prompt_tokens or None, completion_tokens=record.completion_tokens or None,
            audio_s=(record.audio_s and round(record.audio_s, 2)) or None, finish=record.finish, error=record.error,
        )  # fmt: skip
