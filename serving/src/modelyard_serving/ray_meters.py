"""Ray's own metrics: a pod shows those of all its processes on one port, with `ray_` before each name.

So a Prometheus that looks at Ray pods has the numbers of all replicas without knowing where each of them is.
"""

from collections.abc import Callable, Mapping, Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from modelyard_serving.meters import Instrument


class RayMeters:
    """Instruments of the Ray node that this process runs on; a name that was made before is the same instrument."""

    def __init__(self) -> None:
        self._made: dict[str, Instrument] = {}

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        return self._once(name, lambda: _Counter(Counter(name, text, tuple(labels))))

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        return self._once(name, lambda: _Gauge(Gauge(name, text, tuple(labels))))

    def histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Instrument:
        return self._once(name, lambda: _Histogram(Histogram(name, text, list(bounds), tuple(labels))))

    def _once(self, name: str, make: Callable[[], Instrument]) -> Instrument:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


class _Counter:
    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        if value > 0:  # Ray takes no zero
            self._counter.inc(value, dict(labels))


class _Gauge:
    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self._gauge.set(value, dict(labels))


class _Histogram:
    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self._histogram.observe(value, dict(labels))
