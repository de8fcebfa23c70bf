"""Instruments for numbers, wherever they are read from: Prometheus, here, or Ray's own metrics (ray_meters.py)."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Instrument(Protocol):
    """One metric with all of its series."""

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        """Add `value` to a counter, set a gauge to it, or count it in a histogram; `labels` has each label's value."""


class Meters(Protocol):
    """Makes instruments, each name once."""

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        """A sum that only grows; its series end in `_total`."""

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        """A number of now."""

    def histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Instrument:
        """How many values were at most each of `bounds`, which grow."""


class PrometheusMeters:
    """A registry of Prometheus' client."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        return _Counter(Counter(name, text, labels, registry=self._registry))

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        return _Gauge(Gauge(name, text, labels, registry=self._registry))

    def histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Instrument:
        return _Histogram(Histogram(name, text, labels, registry=self._registry, buckets=bounds))

    def render(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self._registry)


class AllMeters:
    """Several meters as one."""

    def __init__(self, *meters: Meters) -> None:
        self._meters = meters

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        return _All([meters.counter(name, text, labels) for meters in self._meters])

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        return _All([meters.gauge(name, text, labels) for meters in self._meters])

    def histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Instrument:
        return _All([meters.histogram(name, text, labels, bounds) for meters in self._meters])


class _All:
    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self._instruments = instruments

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        for instrument in self._instruments:
            instrument.record(value, labels)


class _Counter:
    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self._counter.labels(**labels).inc(value)


class _Gauge:
    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self._gauge.labels(**labels).set(value)


class _Histogram:
    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self._histogram.labels(**labels).observe(value)
