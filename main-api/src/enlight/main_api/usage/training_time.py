"""The workers' time on trainings, taken over from the jobs' records: against the tenants' limits and as usage.

It is counted while it passes, and recorded once for each attempt when that has ended. A job's record keeps what was not
taken over yet, so that no gateway needs to be there when a training ends, and several do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pymongo.errors import DuplicateKeyError

from enlight.jobkit.database import Documents, database_errors, server_time
from enlight.jobkit.job_accounts import JobAccounts
from enlight.jobkit.jobs import EndedAttempt, Job
from enlight.main_api.limits.quotas import GPU_SECONDS
from enlight.main_api.limits.rate_limits import RateLimiter
from enlight.main_api.usage.records import COLLECTION

TAKE_OVER_EVERY_S = 2.0
ROUTE = "training"
"""What stands as route in the record of an attempt: no request's, whose routes begin with a slash."""


class TrainingTime:
    """Takes the time over. Methods raise DatabaseUnavailable; what was not taken over then is with the next call.

    Args:
        database: The jobs, and the usage records.
        limiter: Counts the seconds of a tenant.
        recorded: Is told of each attempt once, by whichever gateway recorded it.
    """

    def __init__(
        self,
        database: Documents,
        limiter: RateLimiter,
        *,
        recorded: Callable[[EndedAttempt], object] = lambda ended: None,
    ) -> None:
        self._database = database
        self._accounts = JobAccounts(database)
        self._usage = database[COLLECTION]
        self._limiter = limiter
        self._recorded = recorded

    def take_over(self) -> None:
        """What all jobs used since the last call, of whichever gateway."""
        now = server_time(self._database)
        for job in self._accounts.open():
            self._take_over(job, now)

    def settle(self, job: Job) -> None:
        """The same for an ended job, which has nothing to be taken over afterwards and may be forgotten."""
        self._take_over(job, server_time(self._database))

    def _take_over(self, job: Job, now: datetime) -> None:
        seconds = self._accounts.count(job)
        if seconds > 0 and job.renewed_at is not None:
            ended_s_ago = max(0.0, (now - job.renewed_at).total_seconds())
            self._limiter.record(job.tenant, GPU_SECONDS, seconds, ended_s_ago=ended_s_ago)
        if job.unrecorded_attempts:
            self._record(job)
            self._accounts.recorded(job)

    def _record(self, job: Job) -> None:
        for ended in job.unrecorded_attempts:
            record = {
                "_id": f"{job.id}.{ended.attempt}",  # the same whoever writes it, and however often
                "tenant": job.tenant,
                "route": ROUTE,
                "training_id": job.id,
                "attempt": ended.attempt,
                "outcome": ended.outcome,
                "gpu_seconds": ended.gpu_seconds,
                "model": job.model_name,
                "at": ended.ended_at,
            }
            try:
                with database_errors():
                    self._usage.insert_one(record)
            except DuplicateKeyError:
                continue
            self._recorded(ended)
