"""Metrics of one service."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from enlight.servicekit.metrics import ServiceMetrics


def samples(metrics: ServiceMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_and_timed() -> None:
    metrics = ServiceMetrics()
    metrics.observe_request("POST", "/train", 200, 2.0)
    metrics.observe_request("POST", "/train", 503, 0.1)
    metrics.observe_request("BREW", None, 404, 0.1)
    seen = samples(metrics)
    train = (("method", "POST"), ("rule", "/train"))
    assert seen["enlight_http_requests_total", (*train, ("status", "503"))] == 1.0
    assert seen["enlight_http_request_duration_seconds_count", train] == 2.0
    assert seen["enlight_http_request_duration_seconds_sum", train] == 2.1
    unmatched = (("method", "other"), ("rule", "unmatched"))
    assert seen["enlight_http_requests_total", (*unmatched, ("status", "404"))] == 1.0


def test_a_service_adds_its_own() -> None:
    metrics = ServiceMetrics("enlight_bgrem")
    metrics.counter("images_total", "Images.", ["model"]).labels("u2net").inc(3)
    metrics.gauge("queue", "Waiting.").set(2)
    metrics.histogram("run_seconds", "Run time.").observe(0.3)
    restarts = [5]
    metrics.watch("worker_restarts", "Restarts.", lambda: restarts[0])
    seen = samples(metrics)
    assert seen["enlight_bgrem_images_total", (("model", "u2net"),)] == 3.0
    assert seen["enlight_bgrem_queue", ()] == 2.0
    assert seen["enlight_bgrem_run_seconds_bucket", (("le", "0.5"),)] == 1.0
    assert seen["enlight_bgrem_worker_restarts", ()] == 5.0
    restarts[0] = 6
    assert samples(metrics)["enlight_bgrem_worker_restarts", ()] == 6.0


def test_the_process_is_measured() -> None:
    assert samples(ServiceMetrics())["process_resident_memory_bytes", ()] > 1e6
