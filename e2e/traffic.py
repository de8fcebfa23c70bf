"""Clients that count every request, for as long as a test changes things below them."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

REQUEST_TIMEOUT_S = 120


def post(url: str, body: dict[str, Any], *, timeout: float = REQUEST_TIMEOUT_S) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request, whatever the status."""
    request = urllib.request.Request(  # noqa: S310 - the URL is the gateway's
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            return error.code, json.loads(text)
        except ValueError:
            return error.code, {"text": text}


@dataclass
class Load:
    """So many clients, each sending one request after the other until the block ends.

    with Load(url, body, clients=8) as load: ...
    assert load.failures == []
    """

    url: str
    body: dict[str, Any]
    clients: int = 8
    pause_s: float = 0.1
    """Between two requests of a client: what comes up meanwhile needs the two processors too."""
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=REQUEST_TIMEOUT_S)

    @property
    def count(self) -> int:
        return sum(self.statuses.values())

    def _client(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                status, answer = post(self.url, self.body)
            except OSError as error:
                status, answer = 0, {"error": repr(error)}
            with self._lock:
                self.statuses[status] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
                if status != 200:
                    self.failures.append(f"after {self.count} requests: {status} {json.dumps(answer)[:300]}")
            self._stop.wait(self.pause_s)


@dataclass
class Stream:
    """One long streamed completion, read by a thread of its own while the test goes on.

    with Stream(url, body) as stream: ...
    assert stream.lasted: it was still going when the block ended, and went on after that.
    """

    url: str
    body: dict[str, Any]
    events: int = 0
    lasted: bool = False
    error: str | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Stream":
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Read some more events, to see that it goes on, and leave."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=60)

    def _read(self) -> None:
        request = urllib.request.Request(  # noqa: S310 - the URL is the gateway's
            self.url,
            data=json.dumps({**self.body, "stream": True}).encode(),
            headers={"content-type": "application/json"},
        )
        after = 0
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                for raw in answer:
                    line = raw.decode().strip()
                    if not line.startswith("data: "):
                        continue
                    if line == "data: [DONE]":
                        self.error = f"the completion ended by itself after {self.events} events"
                        return
                    if "error" in json.loads(line.removeprefix("data: ")):
                        self.error = line
                        return
                    self.events += 1
                    after += self._over.is_set()
                    if after > 5:
                        self.lasted = True
                        return
            self.error = f"the stream broke off after {self.events} events"
        except OSError as error:
            self.error = repr(error)
