"""The same numbers wherever they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import ray.util.metrics

from modelyard_serving.contract import StartLedger
from modelyard_serving.engines.protocol import EngineStats
from modelyard_serving.meters import Instrument
from modelyard_serving.metrics import DownloadMetrics, ReplicaMetrics
from modelyard_serving.ray_meters import RayMeters


@dataclass
class Recorded:
    """Meters that remember what they were told."""

    told: list[tuple[str, float, dict[str, str]]] = field(default_factory=list)
    labels: dict[str, set[str]] = field(default_factory=dict)

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Instrument:
        self.labels[name] = set(labels)
        return _Recording(name, self.told)

    gauge = counter

    def histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Instrument:
        assert list(bounds) == sorted(bounds)
        return self.counter(name, text, labels)


@dataclass
class _Recording:
    name: str
    told: list[tuple[str, float, dict[str, str]]]

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self.told.append((self.name, value, dict(labels)))


def _use(metrics: ReplicaMetrics) -> None:
    metrics.started(StartLedger(imports_s=1, load_s=2, warmup_s=3))
    metrics.request_done("chat.completions", 200, 1.5)
    metrics.request_done("completions", 429, 0.5)
    metrics.tokens_done("chat.completions", 7, 5, (0.25, 1.25))
    metrics.tokens_done("completions", 7, 1, (0.25, 0.25))
    metrics.tokens_done("models", 0, 0, None)
    metrics.engine(EngineStats(running=2, queued=1, batches=3, batch_items=7))


def test_all_meters_get_every_number_with_all_its_labels() -> None:
    others = Recorded()
    metrics = ReplicaMetrics("team-a/tiny", "0123abcd", others)
    _use(metrics)
    assert all(set(labels) == others.labels[name] for name, _, labels in others.told)
    each_token = [value for name, value, _ in others.told if name == "gen_ai_server_time_per_output_token_seconds"]
    assert each_token == [0.25], "one token has no time between tokens"
    rendered = metrics.render().decode()
    for name, value, labels in others.told:
        if name.endswith(("running_requests", "start_seconds")):
            series = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
            assert f"{name}{{{series}}} {float(value)}" in rendered


def test_rays_instruments_are_made_once_and_take_what_replicas_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, Any]] = []

    def record(self: Any, value: float, tags: dict[str, str]) -> None:
        told.append((self.info["name"], value))

    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(getattr(ray.util.metrics, kind), "_record", record)
    meters = RayMeters()
    _use(ReplicaMetrics("team-a/tiny", "0123abcd", meters))
    first = dict(meters._made)
    _use(ReplicaMetrics("team-a/tiny", "4567cdef", meters))
    assert meters._made == first
    assert ("modelyard_running_requests", 2) in told
    assert ("modelyard_requests", 1) in told
    assert all(value > 0 for name, value in told if name == "modelyard_tokens")


def test_a_download_is_told_while_it_runs() -> None:
    meters = Recorded()
    metrics = DownloadMetrics("team-a/x", "0123abcd", meters)
    metrics.told(None, None)
    metrics.ended()
    assert meters.told == [], "what was in the cache is not downloaded"
    metrics.told(10, None)
    metrics.told(10, 4)
    metrics.ended()
    names = {"service": "team-a/x", "revision": "0123abcd"}
    assert [value for name, value, _ in meters.told if name == "modelyard_download_done_bytes"] == [0, 4, 10]
    assert ("modelyard_download_bytes", 10, names) in meters.told
