"""The operator's Prometheus metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from modelyard_operator.kube.client import MODEL_SERVICE, Kind
from modelyard_operator.reconcile.result import Key

_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Outcome:
    """How a reconcile ended; `ok` unless somebody says otherwise."""

    def __init__(self) -> None:
        self.value = "ok"

    def set(self, value: str) -> None:
        self.value = value


class Metrics:
    """All metrics, on a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        Info("modelyard_operator_build", "The operator's version.", registry=self.registry).info({"version": version})
        self._reconcile = Histogram(
            "modelyard_reconcile_seconds", "Time of one reconcile.", ["kind", "outcome"],
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.loops = Gauge("modelyard_loops", "Objects with a loop.", ["kind"], registry=self.registry)
        self._requests = Counter(
            "modelyard_kube_requests", "Requests to the API server.", ["verb", "code"], registry=self.registry
        )
        self._puts = Counter(
            "modelyard_serve_puts", "Serve configs written to Ray.", ["outcome"], registry=self.registry
        )
        self.lease_held = Gauge(
            "modelyard_lease_held", "1 while this operator holds the Lease and may write.", registry=self.registry
        )
        self.writes_refused = Counter(
            "modelyard_writes_refused", "Writes that were not made because the Lease was not held.",
            registry=self.registry,
        )  # fmt: skip
        self._services = Gauge(
            "modelyard_model_services", "ModelServices by the reason of their Ready condition.",
            ["reason"], registry=self.registry,
        )  # fmt: skip
        self._reasons: dict[Key, str] = {}

    @contextmanager
    def reconcile(self, kind: Kind) -> Iterator[Outcome]:
        """Measure the block as one reconcile, with the outcome that it sets."""
        outcome, begun = Outcome(), time.monotonic()
        try:
            yield outcome
        finally:
            self._reconcile.labels(kind.kind, outcome.value).observe(time.monotonic() - begun)

    def kube_request(self, verb: str, code: str) -> None:
        """One request to the API server was answered with `code` (`none`: not answered)."""
        self._requests.labels(verb, code).inc()

    def serve_put(self, outcome: str) -> None:
        """One Serve config was sent: ok, refused or unreachable."""
        self._puts.labels(outcome).inc()

    def service_ready(self, key: Key, reason: str) -> None:
        """The reason of a ModelService's Ready condition, as last seen."""
        before = self._reasons.get(key)
        if before == reason:
            return
        if before is not None:
            self._services.labels(before).dec()
        self._reasons[key] = reason
        self._services.labels(reason).inc()

    def object_gone(self, kind: Kind, key: Key) -> None:
        """Forget what was said of an object."""
        if kind == MODEL_SERVICE and key in self._reasons:
            self._services.labels(self._reasons.pop(key)).dec()
