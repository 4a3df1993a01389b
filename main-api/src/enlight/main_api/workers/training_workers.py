"""The workers of the training queue: those that wait say so in the queue, those that have a job stand in its record."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from redis.exceptions import RedisError

from enlight.jobkit.job_statistics import JobHolder, JobStatistics
from enlight.jobkit.worker_registry import RegisteredWorker, WorkerRegistry

_log = logging.getLogger(__name__)

SILENT = timedelta(seconds=60)
"""A worker that waits tells the queue of itself twice as often."""


@dataclass(frozen=True)
class TrainingWorker:
    """A worker, as the queue and the database know it."""

    name: str
    """``host:process``."""
    state: Literal["ready", "busy", "unreachable"]
    training_id: str | None
    seen_at: datetime | None

    @property
    def host(self) -> str:
        """Name of the machine or container."""
        return self.name.rpartition(":")[0] or self.name


class TrainingWorkers:
    """Puts together what queue and database say.

    Args:
        registry: Who told the queue of itself.
        jobs: Who has a job.
    """

    def __init__(self, registry: WorkerRegistry, jobs: JobStatistics) -> None:
        self._registry = registry
        self._jobs = jobs

    def seen(self) -> list[TrainingWorker]:
        """By name; without the queue those that have a job. Raises: DatabaseUnavailable."""
        holders = {holder.worker: holder for holder in self._jobs.holders()}
        try:
            registered = {worker.name: worker for worker in self._registry.workers()}
        except RedisError as error:
            _log.warning("the queue is away, and nobody knows which workers wait: %s", error)
            registered = {}
        now = datetime.now(UTC)
        names = sorted(holders.keys() | registered.keys())
        return [_worker(name, holders.get(name), registered.get(name), now) for name in names]


def _worker(name: str, holder: JobHolder | None, told: RegisteredWorker | None, now: datetime) -> TrainingWorker:
    signs = (holder.renewed_at if holder else None, told.seen_at if told else None)
    seen_at = max((at for at in signs if at is not None), default=None)
    if holder is not None and holder.is_alive:
        return TrainingWorker(name, "busy", holder.job_id, seen_at)
    if told is None or now - told.seen_at > SILENT:
        return TrainingWorker(name, "unreachable", holder.job_id if holder else None, seen_at)
    return TrainingWorker(name, "busy" if told.is_busy else "ready", None, seen_at)
