"""The replica's metrics; every series names the service and the revision.

Where OpenTelemetry's semantic conventions for generative AI have a name, it is theirs, in Prometheus' spelling.
"""

from collections.abc import Sequence

from modelyard_serving.contract import DOWNLOAD_BYTES, DOWNLOAD_DONE_BYTES, StartLedger
from modelyard_serving.engines.protocol import EngineStats
from modelyard_serving.meters import AllMeters, Instrument, Meters, PrometheusMeters

LABELS = ("service", "revision")
OPERATION = "gen_ai_operation_name"
ERROR = "error_type"

REQUEST_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""Bounds in seconds, as the conventions advise them."""

OPERATIONS = {"chat.completions": "chat", "completions": "text_completion"}
"""Endpoints by the conventions' names for what they do; all others keep their own."""


class DownloadMetrics:
    """How far the download for one revision of one service is; Prometheus cannot ask the replica before its end."""

    def __init__(self, service: str, revision: str, *meters: Meters) -> None:
        every = AllMeters(*meters)
        self._all = every.gauge(DOWNLOAD_BYTES, "Bytes of the model that is downloaded.", LABELS)
        self._done = every.gauge(DOWNLOAD_DONE_BYTES, "Bytes of it that are there.", LABELS)
        self._names = {"service": service, "revision": revision}
        self._size = 0.0

    def told(self, size: float | None, done: float | None) -> None:
        """Note what an entry of the journal says, where it says anything of it."""
        if size is not None:
            self._size = size
            self._all.record(size, self._names)
            self._done.record(done or 0, self._names)

    def ended(self) -> None:
        """Note that all of it is there."""
        if self._size:
            self._done.record(self._size, self._names)


class ReplicaMetrics:
    """Counts what one replica does for one revision of one service."""

    def __init__(self, service: str, revision: str, *others: Meters) -> None:
        """`others` take the same numbers as Prometheus."""
        self._prometheus = PrometheusMeters()
        self._meters = AllMeters(self._prometheus, *others)
        self._names = {"service": service, "revision": revision}
        self._requests = self._counter("requests", "Requests by endpoint and status.", "endpoint", "status")
        self._tokens = self._counter("tokens", "Tokens of prompts and of answers.", "kind")
        self._audio = self._counter("audio_seconds", "Seconds of sound that were listened to.")
        self._seconds = self._histogram("request_duration", "Whole requests.", REQUEST_S, OPERATION, ERROR)
        self._first_token = self._histogram("time_to_first_token", "Until the first token.", FIRST_TOKEN_S, OPERATION)
        self._token = self._histogram("time_per_output_token", "Each token after the first.", TOKEN_S, OPERATION)
        self._running = self._gauge("running_requests", "Requests that the engine works on.")
        self._queued = self._gauge("queued_requests", "Requests that wait for the engine.")
        self._batches = self._counter("batches", "Batches that the engine has computed.")
        self._batch_items = self._counter("batch_items", "Items in these batches.")
        self._prompt_tokens = self._counter("prefix_cache_queries", "Tokens of prompts that were looked for.")
        self._known_tokens = self._counter("prefix_cache_hits", "Tokens of prompts that were known.")
        self._told = EngineStats(0, 0)
        self._start = self._gauge("start_seconds", "Seconds that the start took.", "phase")

    def request_done(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request, however it ended."""
        self._requests.record(1, self._names | {"endpoint": endpoint, "status": str(status)})
        error = str(status) if status >= 400 else ""
        self._seconds.record(seconds, self._names | {OPERATION: _operation(endpoint), ERROR: error})

    def tokens_done(self, endpoint: str, prompt: int, completion: int, times: tuple[float, float] | None) -> None:
        """Count the tokens of a request; `times` are the seconds to its first token and to its last."""
        self._tokens.record(prompt, self._names | {"kind": "prompt"})
        self._tokens.record(completion, self._names | {"kind": "completion"})
        if times is None:
            return
        labels = self._names | {OPERATION: _operation(endpoint)}
        self._first_token.record(times[0], labels)
        if completion > 1:
            self._token.record((times[1] - times[0]) / (completion - 1), labels)

    def audio_done(self, seconds: float) -> None:
        """Count the sound of a request."""
        self._audio.record(seconds, self._names)

    def started(self, ledger: StartLedger) -> None:
        """Note where the start spent its time."""
        phases = {"imports": ledger.imports_s, "load": ledger.load_s, "warmup": ledger.warmup_s}
        if ledger.download_s is not None:
            phases["download"] = ledger.download_s
        for phase, seconds in phases.items():
            self._start.record(seconds, self._names | {"phase": phase})

    def engine(self, stats: EngineStats) -> None:
        """What the engine has on its hands now, and what it has done since the last time."""
        self._running.record(stats.running, self._names)
        self._queued.record(stats.queued, self._names)
        self._batches.record(stats.batches - self._told.batches, self._names)
        self._batch_items.record(stats.batch_items - self._told.batch_items, self._names)
        self._prompt_tokens.record(stats.prompt_tokens - self._told.prompt_tokens, self._names)
        self._known_tokens.record(stats.known_tokens - self._told.known_tokens, self._names)
        self._told = stats

    def render(self) -> bytes:
        """All series in Prometheus' text format."""
        return self._prometheus.render()

    def _counter(self, name: str, text: str, *labels: str) -> Instrument:
        return self._meters.counter(f"modelyard_{name}", text, (*LABELS, *labels))

    def _gauge(self, name: str, text: str, *labels: str) -> Instrument:
        return self._meters.gauge(f"modelyard_{name}", text, (*LABELS, *labels))

    def _histogram(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> Instrument:
        return self._meters.histogram(f"gen_ai_server_{name}_seconds", text, (*LABELS, *labels), bounds)


def _operation(endpoint: str) -> str:
    return OPERATIONS.get(endpoint, endpoint)
