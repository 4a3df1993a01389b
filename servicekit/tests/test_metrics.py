"""Metrics of one service."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from enlight.servicekit.measurements import STAGE_DURATION, Measurements
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
    restarts: list[float | None] = [5]
    metrics.watch("worker_restarts", "Restarts.", lambda: restarts[0])
    seen = samples(metrics)
    assert seen["enlight_bgrem_images_total", (("model", "u2net"),)] == 3.0
    assert seen["enlight_bgrem_queue", ()] == 2.0
    assert seen["enlight_bgrem_run_seconds_bucket", (("le", "0.5"),)] == 1.0
    assert seen["enlight_bgrem_worker_restarts", ()] == 5.0
    restarts[0] = 6
    assert samples(metrics)["enlight_bgrem_worker_restarts", ()] == 6.0
    restarts[0] = None  # not known
    assert ("enlight_bgrem_worker_restarts", ()) not in samples(metrics)


def test_what_others_count_is_read_at_each_look() -> None:
    metrics = ServiceMetrics()
    kept = {"host": 2.0}
    metrics.watch_total("lost_total", "Lost.", lambda: kept["host"])
    metrics.watch_totals("evictions_total", "Evictions.", "tier", lambda: kept)
    metrics.watch_each("bytes", "Bytes.", "tier", lambda: kept)
    kept |= {"host": 3.0, "gpu": 1.0}
    seen = samples(metrics)
    assert seen["enlight_lost_total", ()] == 3.0
    assert seen["enlight_evictions_total", (("tier", "gpu"),)] == 1.0
    assert seen["enlight_bytes", (("tier", "host"),)] == 3.0
    assert [each.name for each in metrics.declared][-3:] == [
        "enlight_lost_total",
        "enlight_evictions_total",
        "enlight_bytes",
    ]


def test_what_a_child_measured_is_added_up() -> None:
    metrics, child = ServiceMetrics(), Measurements()
    metrics.counter("pictures_total", "Pictures.", ["operation"])
    metrics.counter("evictions_total", "Evictions.")
    metrics.histogram(STAGE_DURATION, "Stages.", ["operation", "stage"])
    child.add("pictures_total", 2, "cutout")
    child.reach("evictions_total", 3)
    child.reach("evictions_total", 3)
    child.reach("evictions_total", 5)
    with child.stage("cutout", "decode"):
        pass
    with pytest.raises(ValueError, match="broken"), child.stage("cutout", "decode"):
        raise ValueError("broken")
    metrics.take(child.take())
    metrics.take(child.take())  # once
    seen = samples(metrics)
    assert seen["enlight_pictures_total", (("operation", "cutout"),)] == 2.0
    assert seen["enlight_evictions_total", ()] == 5.0
    decode = (("operation", "cutout"), ("stage", "decode"))
    assert seen["enlight_stage_duration_seconds_count", decode] == 1.0


def test_there_is_no_series_of_when_something_was_made() -> None:
    metrics = ServiceMetrics()
    metrics.observe_request("GET", "/", 200, 0.1)
    assert b"_created" not in metrics.text()


def test_the_process_is_measured() -> None:
    assert samples(ServiceMetrics())["process_resident_memory_bytes", ()] > 1e6
