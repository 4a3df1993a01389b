"""What a worker measures. It has no HTTP of its own: a port of its settings answers Prometheus, and nobody else."""

from __future__ import annotations

import logging

from prometheus_client import start_http_server

from enlight.dreambooth_api.training_metrics import TRAINING, TrainingMetrics
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.jobkit.jobs import Job
from enlight.servicekit.metrics import LONG_BUCKETS_S, ServiceMetrics

_log = logging.getLogger(__name__)

JOB_OUTCOMES = ("succeeded", "failed", "cancelled", "released", "lost")
"""Of an attempt at a job: ``released``: given back to the queue unharmed, ``lost``: left to another attempt."""
UPLOAD_OUTCOMES = ("succeeded", "failed")


class WorkerMetrics(TrainingMetrics):
    """The trainings of a worker, the jobs that they are, and the checkpoints that it brings away.

    Args:
        metrics: Of the process.
    """

    def __init__(self, metrics: ServiceMetrics) -> None:
        super().__init__(metrics)
        self._jobs = metrics.counter("worker_jobs_total", "Attempts at jobs, by how they ended.", ["outcome"])
        self._uploads = metrics.histogram(
            "checkpoint_upload_duration_seconds",
            "Time that a checkpoint took to the bucket, or until that failed.",
            ["outcome"],
            buckets=LONG_BUCKETS_S,
        )
        self.durations.labels(TRAINING, "queued")
        for outcome in JOB_OUTCOMES:
            self._jobs.labels(outcome)
        for outcome in UPLOAD_OUTCOMES:
            self._uploads.labels(outcome)

    def claimed(self, job: Job) -> None:
        """A job begins; how long it waited is told of its first attempt."""
        if job.attempt == 1 and job.started_at is not None:
            self.observe("queued", (job.started_at - job.created_at).total_seconds())

    def ended(self, outcome: str) -> None:
        """The attempt is over; one of `JOB_OUTCOMES`."""
        self._jobs.labels(outcome).inc()

    def uploaded(self, outcome: str, seconds: float) -> None:
        """A checkpoint is in the bucket, or could not be brought there; one of `UPLOAD_OUTCOMES`."""
        self._uploads.labels(outcome).observe(seconds)


def unwatched() -> WorkerMetrics:
    """For whoever works without being asked for them."""
    return WorkerMetrics(ServiceMetrics(http=False))


def serve_metrics(settings: WorkerSettings) -> WorkerMetrics:
    """The metrics of this process, at the port of its settings.

    Raises:
        OSError: the port is taken, or the address not this machine's.
    """
    metrics = ServiceMetrics(http=False)
    measured = WorkerMetrics(metrics)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.metrics_host, registry=metrics.registry)
        _log.info("metrics are at port %d of %s", settings.metrics_port, settings.metrics_host)
    return measured
