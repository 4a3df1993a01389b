"""What the queue calls: claims one job and works on it. No torch: the trainer is a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from enlight.dreambooth_api.attempt_history import AttemptHistory
from enlight.dreambooth_api.attempt_stages import attempt_span
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.training_attempt import TrainingAttempt
from enlight.dreambooth_api.training_queue import TRAINER
from enlight.dreambooth_api.worker_metrics import WorkerMetrics, unwatched
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.jobkit.database import open_database
from enlight.jobkit.job_histories import JobHistories
from enlight.jobkit.job_leases import JobLeases, LeaseLost
from enlight.servicekit.errors import DatabaseUnavailable, StorageUnavailable
from enlight.servicekit.logs import log_context
from enlight.servicekit.settings import load_settings

_log = logging.getLogger(__name__)


def run(job_id: str, *, metrics: WorkerMetrics | None = None) -> None:
    """Works on the job, with settings from the environment. To be called in the main thread of a process.

    SIGTERM and SIGINT end the training with a checkpoint and give the job back; then they do what they did before.
    """
    settings = load_settings(WorkerSettings)
    with stop_signals() as closing:
        work_on(job_id, settings, closing, metrics=metrics)


def work_on(
    job_id: str,
    settings: WorkerSettings,
    closing: threading.Event,
    *,
    trainer: str = TRAINER,
    metrics: WorkerMetrics | None = None,
) -> None:
    """Claims the job and works on it until it ends, its lease is lost, or ``closing`` is set.

    A job that somebody else has or had, or that ended, is left alone: to be called twice does no harm. What goes wrong
    ends the job with a reason or leaves it to another attempt.
    """
    metrics = metrics or unwatched()
    database = open_database(settings.mongo_url, settings.mongo_database, timeout_s=settings.mongo_timeout_s)
    leases = JobLeases(database, lease_s=settings.lease_s)
    with log_context(job_id=job_id), ExitStack() as of_request:
        try:
            # Before the claim: a worker that cannot reach its buckets has lost no attempt.
            objects, models = settings.open_jobs_bucket(), ModelStore(settings.open_models_bucket())
            job = leases.claim(job_id, f"{socket.gethostname()}:{os.getpid()}")
            if job is None:
                _log.info("there is nothing to do")
                return
            of_request.enter_context(log_context(request_id=job.request_id))
            with attempt_span(job):
                _log.info("attempt %d begins", job.attempt)
                history = AttemptHistory(JobHistories(database), leases, objects, job)
                metrics.claimed(job)
                TrainingAttempt(
                    job, leases, history, objects, models, settings, closing, trainer=trainer, metrics=metrics
                ).run()
        except LeaseLost:
            _log.warning("the job is another attempt's now; nothing of this one counts")
        except (DatabaseUnavailable, StorageUnavailable) as error:
            _log.warning("the job is left to another attempt: %s", error.message)
        finally:
            database.client.close()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Within it, SIGTERM and SIGINT set the event before they do what they did before. For the main thread.

    The main thread must not wait for the event, only look: a signal that comes while it holds the event's lock would
    wait for it for ever.
    """
    closing = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        closing.set()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, stop)
    try:
        yield closing
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
