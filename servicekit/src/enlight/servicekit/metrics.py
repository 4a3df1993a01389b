"""Prometheus metrics of one service: a registry of its own, so that two apps in one process do not meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from enlight.servicekit.measurements import Measurement

DURATION_BUCKETS_S = (0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
"""From a health check to a training."""
LONG_BUCKETS_S = (*DURATION_BUCKETS_S, 3600, 14400)
"""From the encoding of a small picture to a long training."""

UNMATCHED = "unmatched"
"""Rule of requests for no route: their paths are made up by strangers and must not become labels."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True)
class Declared:
    """A metric that a service has, for its documentation."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    text: str


class ServiceMetrics:
    """Counts requests by route, and holds what else a service measures."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, prefix: str = "enlight", *, http: bool = True) -> None:
        """``http``: whether requests are counted."""
        self.registry = CollectorRegistry()
        self.declared: list[Declared] = []
        self._prefix = prefix
        self._instruments: dict[str, Counter | Histogram] = {}
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """Of the requests, by method, rule and status: as few as there are series."""
        ProcessCollector(registry=self.registry)
        if http:
            self._requests = self.counter("http_requests_total", "Requests answered.", ["method", "rule", "status"])
            self._durations_s = self.histogram(
                "http_request_duration_seconds", "Time to the end of the answer.", ["method", "rule"]
            )

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A new counter; ``name`` without the prefix."""
        full_name = self._declare(name, "counter", labels, text)
        made = self._instruments[name] = Counter(full_name, text, labels, registry=self.registry)
        return made

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A new gauge; ``name`` without the prefix."""
        return Gauge(self._declare(name, "gauge", labels, text), text, labels, registry=self.registry)

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = DURATION_BUCKETS_S
    ) -> Histogram:
        """A new histogram; ``name`` without the prefix."""
        full_name = self._declare(name, "histogram", labels, text)
        made = self._instruments[name] = Histogram(full_name, text, labels, buckets=buckets, registry=self.registry)
        return made

    def watch(self, name: str, text: str, read: Callable[[], float | None]) -> None:
        """A gauge that is read when somebody asks for the metrics; None: it is not known, and not shown."""
        self._watch("gauge", name, text, None, lambda: _alone(read()))

    def watch_each(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """A gauge for each value of a label, read when somebody asks for the metrics."""
        self._watch("gauge", name, text, label, read)

    def watch_total(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A counter that somebody else keeps, read when somebody asks for the metrics."""
        self._watch("counter", name, text, None, lambda: _alone(read()))

    def watch_totals(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """The same for each value of a label."""
        self._watch("counter", name, text, label, read)

    def take(self, measurements: Iterable[Measurement]) -> None:
        """What a child measured: into the counters and histograms of these names."""
        for measured in measurements:
            instrument = self._instruments[measured.name]
            if measured.labels:
                instrument = instrument.labels(*measured.labels)
            if isinstance(instrument, Histogram):
                instrument.observe(measured.value)
            else:
                instrument.inc(measured.value)

    def observe_request(self, method: str, rule: str | None, status: int, duration_s: float) -> None:
        """One answered request; ``rule`` is the route's pattern, None for no route."""
        method = method if method in _METHODS else "other"
        request = method, rule or UNMATCHED, status
        if (series := self._series.get(request)) is None:
            requests = self._requests.labels(method, request[1], str(status))
            series = self._series[request] = requests, self._durations_s.labels(method, request[1])
        series[0].inc()
        series[1].observe(duration_s)

    def text(self) -> bytes:
        """The exposition, in ``content_type``."""
        return generate_latest(self.registry)

    def _declare(self, name: str, kind: Kind, labels: Sequence[str], text: str) -> str:
        full_name = f"{self._prefix}_{name}"
        self.declared.append(Declared(full_name, kind, tuple(labels), text))
        return full_name

    def _watch(
        self, kind: Kind, name: str, text: str, label: str | None, read: Callable[[], Mapping[str, float]]
    ) -> None:
        labels = () if label is None else (label,)
        self.registry.register(_Watched(self._declare(name, kind, labels, text), kind, text, labels, read))


class _Watched(Collector):
    """A metric whose values are read at each look."""

    def __init__(
        self, name: str, kind: Kind, text: str, labels: tuple[str, ...], read: Callable[[], Mapping[str, float]]
    ) -> None:
        self._family = partial(_FAMILIES[kind], name, text, labels=labels)
        self._labels = labels
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Its name, without reading anything."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """As it is now."""
        now = self._family()
        for value, number in self._read().items():
            now.add_metric([value] if self._labels else [], number)
        return [now]


_FAMILIES: Mapping[str, type[GaugeMetricFamily] | type[CounterMetricFamily]] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
}


def _alone(number: float | None) -> Mapping[str, float]:
    return {} if number is None else {"": number}
