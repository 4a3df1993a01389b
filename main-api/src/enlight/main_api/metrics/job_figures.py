"""Jobs, queue and training workers as figures, looked at in the background: to be asked for metrics costs no query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue

from enlight.jobkit.dispatcher import SERIALIZER, TRAIN_QUEUE
from enlight.jobkit.job_statistics import JobStatistics
from enlight.jobkit.states import State
from enlight.main_api.background import Repeating
from enlight.main_api.workers.training_workers import TrainingWorkers
from enlight.servicekit.metrics import ServiceMetrics

LOOK_EVERY_S = 5.0
STATES: tuple[State, ...] = ("queued", "running")
"""Those that ended are counted as they end: there may be very many."""
LEASE_STATES = ("held", "expired")
WORKER_STATES = ("ready", "busy", "unreachable")


class JobFigures:
    """Looks every few seconds. What could not be learned at the last look is not shown.

    Args:
        jobs: Who has which job, and what waits.
        workers: Who could take one.
        queue: The queue's Valkey.
    """

    def __init__(self, jobs: JobStatistics, workers: TrainingWorkers, queue: Redis) -> None:
        self._jobs = jobs
        self._workers = workers
        self._queue = Queue(TRAIN_QUEUE, connection=queue, serializer=SERIALIZER)
        self._by_state: Mapping[str, float] = {}
        self._leases: Mapping[str, float] = {}
        self._by_worker_state: Mapping[str, float] = {}
        self._oldest_s: float | None = None
        self._dispatches: float | None = None
        self._thread = Repeating(self.look, every_s=LOOK_EVERY_S, name="job-figures")

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the looking."""
        self._thread.stop()

    def add_metrics(self, metrics: ServiceMetrics) -> None:
        """What was seen last. Every gateway shows the same."""
        metrics.watch_each("jobs", "Trainings that wait or run.", "state", lambda: self._by_state)
        metrics.watch_each(
            "job_leases",
            "Jobs that a worker has: held, or expired because nothing was heard of it.",
            "state",
            lambda: self._leases,
        )
        metrics.watch(
            "oldest_queued_job_age_seconds", "Age of the training that waits longest.", lambda: self._oldest_s
        )
        metrics.watch("queue_dispatches", "Jobs in the queue that no worker took yet.", lambda: self._dispatches)
        metrics.watch_each(
            "training_workers", "Workers, by what is known of them.", "state", lambda: self._by_worker_state
        )

    def look(self) -> None:
        """One look. Raises: DatabaseUnavailable."""
        self._by_state, self._leases, self._by_worker_state, self._oldest_s = {}, {}, {}, None
        self._dispatches = self._depth()
        self._by_state = {state: float(self._jobs.count(state)) for state in STATES}
        self._oldest_s = self._jobs.oldest_queued_age_s()
        leases = Counter("held" if holder.is_alive else "expired" for holder in self._jobs.holders())
        self._leases = {state: float(leases[state]) for state in LEASE_STATES}
        workers = Counter[str](worker.state for worker in self._workers.seen())
        self._by_worker_state = {state: float(workers[state]) for state in WORKER_STATES}

    def _depth(self) -> float | None:
        try:
            return float(self._queue.count)
        except RedisError:
            return None
