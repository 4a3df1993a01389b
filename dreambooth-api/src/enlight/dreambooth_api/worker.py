"""The GPU worker: ``python -m enlight.dreambooth_api.worker`` takes trainings from the queue, one at a time.

The queue only says which jobs there are; what is true stands in the database, and whether the worker may have a job
is decided there. So the worker outlives a queue that is away, and one that forgot everything.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import DeserializationError, StopRequested
from rq.job import Job
from rq.worker import WorkerStatus

from enlight.dreambooth_api.file_locks import FileLock
from enlight.dreambooth_api.worker_job import run
from enlight.dreambooth_api.worker_metrics import serve_metrics
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.jobkit.dispatcher import SERIALIZER, TRAIN_QUEUE, connect_queue
from enlight.servicekit.errors import StorageUnavailable
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.settings import load_settings
from enlight.servicekit.tracing import start_tracing, stop_tracing

_log = logging.getLogger(__name__)

_SERVICE = "dreambooth-worker"
_QUEUE_TIMEOUT_S = 2.0
_QUEUE_AWAY_S = 2.0
"""Pause before a queue that was away is tried again."""
_WORKER_TTL_S = 45
"""RQ waits for a job 15 s less than this, and for an answer 10 s longer: a queue that hangs is noticed by then."""


class QueueWorker(SimpleWorker):
    """RQ's worker, reduced to what a dispatch is: the id of a job.

    RQ would call whatever function the queue names, with whatever arguments, and obey commands that come through it.
    Here the queue has no such power: a job's id is taken out, and `run_job` decides with the database what it means.

    Args:
        connection: The queue's Valkey.
        run_job: Works on the job with this id, in this process; the trainer is one of its own.
    """

    def __init__(self, connection: Redis, run_job: Callable[[str], None]) -> None:
        super().__init__(
            [TRAIN_QUEUE],
            connection=connection,
            serializer=SERIALIZER,
            worker_ttl=_WORKER_TTL_S,
            log_job_description=False,
        )
        self.stop_asked = False
        self._run_job = run_job

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Takes the dispatch out of the queue, then works on the job that it names."""
        job_id = _job_id(job)
        # Before the work: while that lasts, the queue may come and go as it likes.
        job.delete()
        self.connection.lrem(queue.intermediate_queue_key, 1, job.id)
        if job_id is None:
            _log.warning("the queue held something that is no dispatch; it is thrown away")
            return
        self.set_state(WorkerStatus.BUSY)
        try:
            self._run_job(job_id)
        except Exception:  # noqa: BLE001 -- a defect must not take the worker with it; the lease runs out
            _log.exception("job %s is left to another attempt", job_id)
        self.set_state(WorkerStatus.IDLE)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Takes SIGTERM and SIGINT: ends at once when idle, after the job otherwise. The job hears of it itself."""
        self.stop_asked = self._stop_requested = True
        if self.get_state() != WorkerStatus.BUSY:
            raise StopRequested

    def subscribe(self) -> None:
        """Does not listen for commands."""

    def unsubscribe(self) -> None:
        """Nothing was subscribed to."""


def main() -> int:
    """Works until SIGTERM or SIGINT; returns the exit status.

    Raises:
        SettingsError: a setting is unknown, misspelt or out of range, or what makes traces is not installed.
        InvalidField: the address of a bucket is none.
    """
    settings = load_settings(WorkerSettings)
    configure_logging(_SERVICE, settings.log_level)
    start_tracing(_SERVICE)
    with suppress(StorageUnavailable):  # may come later; an address that is none does not
        settings.open_jobs_bucket()
        settings.open_models_bucket()
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock.try_hold(settings.data_folder / "worker.lock")
    if lock is None:
        _log.error("another worker uses %s; each needs a data folder of its own", settings.data_folder.absolute())
        return 1
    with lock:
        try:
            metrics = serve_metrics(settings)
        except OSError as error:
            _log.error("metrics cannot be at port %d of %s: %s", settings.metrics_port, settings.metrics_host, error)
            return 1
        work(settings.queue_url, partial(run, metrics=metrics))
    stop_tracing()
    return 0


def work(queue_url: str, run_job: Callable[[str], None]) -> None:
    """Takes jobs until a signal asks for the end, however often the queue goes away; see `QueueWorker`."""
    connection = connect_queue(queue_url, timeout_s=_QUEUE_TIMEOUT_S)
    while True:
        try:
            worker = QueueWorker(connection, run_job)
            worker.work(logging_level=None)
            if worker.stop_asked:
                return
        except StopRequested:
            return
        except RedisError as error:
            _log.warning("the queue is away: %s", error)
        time.sleep(_QUEUE_AWAY_S)


def _job_id(job: Job) -> str | None:
    try:
        (job_id,) = job.args
    except (DeserializationError, TypeError, ValueError):
        return None
    return job_id if isinstance(job_id, str) else None


if __name__ == "__main__":
    sys.exit(main())
