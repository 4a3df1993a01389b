"""Prometheus metrics of one service: a registry of its own, so that two apps in one process do not meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

DURATION_BUCKETS_S = (0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
"""From a health check to a training."""

UNMATCHED = "unmatched"
"""Rule of requests for no route: their paths are made up by strangers and must not become labels."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ServiceMetrics:
    """Counts requests by route, and holds what else a service measures."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, prefix: str = "enlight") -> None:
        self.registry = CollectorRegistry()
        self._prefix = prefix
        ProcessCollector(registry=self.registry)
        self._requests = self.counter("http_requests_total", "Requests answered.", ["method", "rule", "status"])
        self._durations_s = self.histogram(
            "http_request_duration_seconds", "Time to the end of the answer.", ["method", "rule"]
        )

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A new counter; ``name`` without the prefix."""
        return Counter(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A new gauge; ``name`` without the prefix."""
        return Gauge(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = DURATION_BUCKETS_S
    ) -> Histogram:
        """A new histogram; ``name`` without the prefix."""
        return Histogram(f"{self._prefix}_{name}", text, labels, buckets=buckets, registry=self.registry)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when somebody asks for the metrics."""
        self.gauge(name, text).set_function(read)

    def observe_request(self, method: str, rule: str | None, status: int, duration_s: float) -> None:
        """One answered request; ``rule`` is the route's pattern, None for no route."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, rule or UNMATCHED, str(status)).inc()
        self._durations_s.labels(method, rule or UNMATCHED).observe(duration_s)

    def text(self) -> bytes:
        """The exposition, in ``content_type``."""
        return generate_latest(self.registry)
