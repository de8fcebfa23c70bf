"""The replica's Prometheus metrics, in a registry of its own; every series names the service and the revision."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from modelyard_serving.contract import StartLedger
from modelyard_serving.engines.protocol import EngineStats

LABELS = ("service", "revision")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, float("inf"))


class ReplicaMetrics:
    """Counts what one replica does for one revision of one service."""

    def __init__(self, service: str, revision: str) -> None:
        self._registry = CollectorRegistry()
        self._names = (service, revision)
        self._requests = self._counter("requests", "Requests by endpoint and status.", "endpoint", "status")
        self._tokens = self._counter("tokens", "Tokens of prompts and of answers.", "kind")
        self._seconds = self._histogram("request_seconds", "Seconds of whole requests.", "endpoint")
        self._first_token = self._histogram("first_token_seconds", "Seconds to an answer's first token.")
        self._running = self._gauge("running_requests", "Requests that the engine works on.")
        self._queued = self._gauge("queued_requests", "Requests that wait for the engine.")
        self._batches = self._counter("batches", "Batches that the engine has computed.")
        self._batch_items = self._counter("batch_items", "Items in these batches.")
        self._told = EngineStats(0, 0)
        self._start = self._gauge("start_seconds", "Seconds that the start took.", "phase")

    def request_done(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request, however it ended."""
        self._requests.labels(*self._names, endpoint, str(status)).inc()
        self._seconds.labels(*self._names, endpoint).observe(seconds)

    def tokens_done(self, prompt: int, completion: int, first_token_s: float | None) -> None:
        """Count the tokens of a request."""
        self._tokens.labels(*self._names, "prompt").inc(prompt)
        self._tokens.labels(*self._names, "completion").inc(completion)
        if first_token_s is not None:
            self._first_token.labels(*self._names).observe(first_token_s)

    def started(self, ledger: StartLedger) -> None:
        """Note where the start spent its time."""
        phases = {"imports": ledger.imports_s, "load": ledger.load_s, "warmup": ledger.warmup_s}
        for phase, seconds in phases.items():
            self._start.labels(*self._names, phase).set(seconds)

    def render(self, stats: EngineStats) -> bytes:
        """All series in Prometheus' text format, the engine's own as they are now."""
        self._running.labels(*self._names).set(stats.running)
        self._queued.labels(*self._names).set(stats.queued)
        self._batches.labels(*self._names).inc(stats.batches - self._told.batches)
        self._batch_items.labels(*self._names).inc(stats.batch_items - self._told.batch_items)
        self._told = stats
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"modelyard_{name}", text, (*LABELS, *labels), registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"modelyard_{name}", text, (*LABELS, *labels), registry=self._registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"modelyard_{name}", text, (*LABELS, *labels), registry=self._registry, buckets=SECONDS)
