# ruff: noqa: N818 — LeaseLost is named for what happened, as the errors of servicekit are
"""The worker's side of the jobs: who holds a job, and what only its holder may do.

A worker claims a job and gets an attempt number that nobody had before. It holds the job as long as that number is the
newest and the job runs; each of its writes names the number, so that a worker which was paused, cut off or given up
can no longer change anything, whenever it wakes up. Leases are set and compared by the database's clock only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from enlight.jobkit import gpu_time
from enlight.jobkit.database import Documents, database_errors, server_time
from enlight.jobkit.job_collection import JobCollection, ended, literal
from enlight.jobkit.jobs import Job, JobSample
from enlight.jobkit.states import EndState

WORKER_LOST = "worker_lost"
"""Code of the reason of a job that failed because its workers kept dying."""


_LOST = "another attempt holds the job, or it ended"

_CANCELLED: Mapping[str, object] = {"cancel_requested": True, "committed_version": None}
"""Condition: the job is to be cancelled, and it is not too late for that."""

_NOT_CANCELLED: Mapping[str, object] = {"$or": [{"cancel_requested": False}, {"committed_version": {"$ne": None}}]}

_QUEUED: Mapping[str, object] = {"state": "queued", "lease_until": None, "dispatched_at": None}


class LeaseLost(Exception):
    """This attempt does not hold the job (any more): drop everything, write nothing, publish nothing."""


class JobLeases(JobCollection):
    """Claims, leases and ends of jobs. Thread-safe.

    All methods raise DatabaseUnavailable; those that name an attempt raise LeaseLost when it does not hold the job.

    Args:
        database: Where the jobs are.
        lease_s: How long a claim or a renewal holds a job.
        max_attempts: A job that lost this many workers fails.
    """

    def __init__(self, database: Documents, *, lease_s: float, max_attempts: int = 3) -> None:
        super().__init__(database)
        self.lease_s = lease_s
        self.max_attempts = max_attempts
        self._lease_end = {"$add": ["$$NOW", round(lease_s * 1000)]}

    def claim(self, job_id: str, worker: str) -> Job | None:
        """Takes a queued job; None when somebody else has it or there is nothing left to do.

        Args:
            job_id: Which job.
            worker: Name of who takes it, for people.
        """
        return self.change(
            {"_id": job_id, "state": "queued"},
            {
                "state": "running",
                "attempt": {"$add": ["$attempt", 1]},
                "worker": literal(worker),
                "lease_until": self._lease_end,
                "started_at": {"$ifNull": ["$started_at", "$$NOW"]},
                **gpu_time.begins(),
            },
        )

    def renew(self, job_id: str, attempt: int, progress: Mapping[str, Any] | None = None) -> bool:
        """Holds the job for another ``lease_s``, with its progress unless None.

        True: somebody asked to cancel it. A committed job is past that.
        """
        values = {"lease_until": self._lease_end, **gpu_time.goes_on()}
        if progress is not None:
            values["progress"] = literal(dict(progress))
        job = _held(self.change(_held_by(job_id, attempt), values, visible=progress is not None))
        return job.cancel_requested and job.committed_version is None

    def add_sample(self, job_id: str, attempt: int, sample: JobSample) -> None:
        """Adds a sample whose file is in the jobs' store. Of one step the first one stays."""
        held = _held_by(job_id, attempt)
        sampled = {"$concatArrays": [{"$ifNull": ["$samples", []]}, [literal(dataclasses.asdict(sample))]]}
        if self.change({**held, "samples.step": {"$ne": sample.step}}, {"samples": sampled}) is None:
            with database_errors():
                is_held = self._jobs.count_documents(held, limit=1)
            if not is_held:
                raise LeaseLost(_LOST)

    def commit(self, job_id: str, attempt: int, version: str) -> None:
        """Settles which model version is the job's: the fence before anything that others can see.

        From here on the job can only be finished, by this attempt or a later one. Twice the same is no error.
        """
        condition = {**_held_by(job_id, attempt), "committed_version": {"$in": [None, version]}}
        _held(self.change(condition, {"committed_version": literal(version)}))

    def succeed(self, job_id: str, attempt: int, result: Mapping[str, Any]) -> None:
        """Ends the job with its result (plain values)."""
        self._end(job_id, attempt, "succeeded", {"result": literal(dict(result))})

    def fail(self, job_id: str, attempt: int, reason: Mapping[str, Any]) -> None:
        """Ends the job with a reason: ``code``, ``message``, ``details``."""
        self._end(job_id, attempt, "failed", {"reason": literal(dict(reason))})

    def cancelled(self, job_id: str, attempt: int) -> None:
        """Ends the job as somebody asked for."""
        self._end(job_id, attempt, "cancelled", {})

    def release(self, job_id: str, attempt: int) -> None:
        """Gives the job back unfinished, not as a lost attempt; cancelled if that was asked for meanwhile."""
        held = _held_by(job_id, attempt)
        if self.change({**held, **_CANCELLED}, {**ended("cancelled"), **gpu_time.ends("cancelled")}) is None:
            _held(self.change({**held, **_NOT_CANCELLED}, {**_QUEUED, **gpu_time.ends("released")}))

    def reap(self) -> list[str]:
        """Takes back the jobs whose lease ran out, and gives the ids of those that are to be dispatched again.

        A job that lost ``max_attempts`` workers fails; one that was to be cancelled is cancelled; a committed one
        is queued again however often.
        """
        expired = {"state": "running", "lease_until": {"$lt": server_time(self._database)}}
        lost = {"lost_attempts": {"$add": ["$lost_attempts", 1]}, **gpu_time.is_lost()}
        last = self.max_attempts - 1
        worker_lost = {
            "code": WORKER_LOST,
            "message": f"The job's worker died or was cut off {self.max_attempts} times.",
            "details": {"attempts": self.max_attempts},
        }
        self._change_all({**expired, **_CANCELLED}, {**lost, **ended("cancelled")})
        self._change_all(
            {**expired, "committed_version": None, "cancel_requested": False, "lost_attempts": {"$gte": last}},
            {**lost, **ended("failed"), "reason": literal(worker_lost)},
        )
        few = {"cancel_requested": False, "lost_attempts": {"$lt": last}}
        return self._change_all({**expired, "$or": [few, {"committed_version": {"$ne": None}}]}, {**lost, **_QUEUED})

    def _change_all(self, condition: Mapping[str, object], values: Mapping[str, object]) -> list[str]:
        # One at a time: each job is one update of its own, and every id goes to exactly one of several reapers.
        ids: list[str] = []
        while (job := self.change(condition, values)) is not None:
            ids.append(job.id)
        return ids

    def _end(self, job_id: str, attempt: int, state: EndState, values: Mapping[str, object]) -> None:
        if self.change(_held_by(job_id, attempt), {**ended(state), **gpu_time.ends(state), **values}) is not None:
            return
        # The same call may have got through before, with its answer lost. Ended jobs keep their attempt.
        with database_errors():
            ended_by_us = self._jobs.count_documents({"_id": job_id, "attempt": attempt, "state": state}, limit=1)
        if not ended_by_us:
            raise LeaseLost(_LOST)


def _held_by(job_id: str, attempt: int) -> dict[str, object]:
    return {"_id": job_id, "state": "running", "attempt": attempt}


def _held(job: Job | None) -> Job:
    if job is None:
        raise LeaseLost(_LOST)
    return job
