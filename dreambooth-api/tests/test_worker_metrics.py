"""The worker's own metrics: how its jobs end, and the port that answers Prometheus."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import requests
from lone_worker import SCRIPTED_TRAINER
from metric_samples import metrics_text, sample
from worker_site import WorkerSite

from enlight.dreambooth_api.worker_job import work_on
from enlight.dreambooth_api.worker_metrics import JOB_OUTCOMES, WorkerMetrics, serve_metrics
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.servicekit.local_process import free_port
from enlight.servicekit.metrics import ServiceMetrics


@pytest.mark.parametrize(
    ("prompt", "outcome"),
    [("publish", "succeeded"), ("fill-memory", "failed"), ("die", "lost"), ("wait publish", "cancelled")],
)
def test_an_attempt_is_counted_by_how_it_ended(site: WorkerSite, prompt: str, outcome: str) -> None:
    metrics = ServiceMetrics(http=False)
    measured = WorkerMetrics(metrics)
    job = site.add_job(instance_prompt=prompt)

    def work() -> None:
        work_on(job.id, site.settings(), threading.Event(), trainer=SCRIPTED_TRAINER, metrics=measured)

    if outcome == "cancelled":
        worker = threading.Thread(target=work)
        worker.start()
        site.wait_for(job, lambda job: job.progress)
        site.store.request_cancel("ann", job.id)
        worker.join()
    else:
        work()
    text = metrics.text().decode()
    ends = {each: sample(text, "enlight_worker_jobs_total", outcome=each) for each in JOB_OUTCOMES}
    assert ends == {**dict.fromkeys(JOB_OUTCOMES, 0), outcome: 1}
    assert sample(text, "enlight_stage_duration_seconds_count", operation="training", stage="queued") == 1
    # A second attempt did not wait for a worker: it is not told how long its first one did
    if outcome == "lost":
        site.reap(job)
        work()
        text = metrics.text().decode()
        assert sample(text, "enlight_worker_jobs_total", outcome="lost") == 2
        assert sample(text, "enlight_stage_duration_seconds_count", operation="training", stage="queued") == 1


def test_a_job_that_is_given_back_is_counted_as_that(site: WorkerSite) -> None:
    metrics = ServiceMetrics(http=False)
    closing = threading.Event()
    closing.set()
    work_on(site.add_job().id, site.settings(), closing, metrics=WorkerMetrics(metrics))
    text = metrics.text().decode()
    assert (
        sample(text, "enlight_worker_jobs_total") == sample(text, "enlight_worker_jobs_total", outcome="released") == 1
    )


def test_the_port_answers_on_loopback_and_nothing_listens_unless_it_is_set(tmp_path: Path) -> None:
    assert WorkerSettings(data_folder=tmp_path).metrics_port == 0
    port = free_port()
    serve_metrics(WorkerSettings(data_folder=tmp_path))
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    serve_metrics(WorkerSettings(data_folder=tmp_path, metrics_port=port)).ended("lost")
    assert sample(metrics_text(f"http://127.0.0.1:{port}"), "enlight_worker_jobs_total", outcome="lost") == 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            serve_metrics(WorkerSettings(data_folder=tmp_path, metrics_port=taken.getsockname()[1]))
