"""What workers' time on jobs has not been accounted for: the gateways count it against limits and record it as usage.

A job's record says what was used, and what of it the gateways took over already. Each step of theirs is one
conditional write, so that any number of gateways may look at once, and none needs to be there when a job ends.
"""

from __future__ import annotations

from enlight.jobkit.database import database_errors
from enlight.jobkit.job_collection import JobCollection
from enlight.jobkit.jobs import Job, job_from_document


class JobAccounts(JobCollection):
    """The jobs, as far as they use time. Thread-safe; all methods raise DatabaseUnavailable."""

    def open(self) -> list[Job]:
        """The jobs that used time which is not counted, or whose attempts ended and are not recorded."""
        uncounted = {"$expr": {"$gt": ["$gpu_seconds", {"$ifNull": ["$counted_gpu_seconds", 0]}]}}
        condition = {"$or": [{"state": "running", **uncounted}, {"unrecorded_attempts.attempt": {"$gt": 0}}]}
        with database_errors():
            return [job_from_document(document) for document in self._jobs.find(condition)]

    def count(self, job: Job) -> float:
        """Seconds of ``job`` that were not counted before, and are the caller's to count now; 0 when there are none,
        or another gateway has them."""
        seconds = job.gpu_seconds - job.counted_gpu_seconds
        if seconds <= 0:
            return 0.0
        # None: a record from before there was the field.
        not_counted = {"_id": job.id, "counted_gpu_seconds": {"$in": [job.counted_gpu_seconds, None]}}
        counted = self.change(not_counted, {"counted_gpu_seconds": job.gpu_seconds}, visible=False)
        return seconds if counted is not None else 0.0

    def recorded(self, job: Job) -> None:
        """Notes that the attempts that ``job`` names as unrecorded are recorded; may be repeated."""
        attempts = [ended.attempt for ended in job.unrecorded_attempts]
        others = {"$not": [{"$in": ["$$this.attempt", attempts]}]}
        left = {"$filter": {"input": {"$ifNull": ["$unrecorded_attempts", []]}, "cond": others}}
        self.change({"_id": job.id}, {"unrecorded_attempts": left}, visible=False)
