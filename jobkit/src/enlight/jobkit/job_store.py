"""The gateway's side of the jobs: creating, reading, listing, ending them, and what waits for the queue."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from enlight.jobkit.database import database_errors, server_time
from enlight.jobkit.job_collection import ended
from enlight.jobkit.job_leases import JobLeases
from enlight.jobkit.jobs import Job, NewJob, job_from_document
from enlight.jobkit.states import FINAL_STATES, STATES, State
from enlight.servicekit.errors import Conflict, InvalidField, NotFound

IDEMPOTENCY_KEY = "Idempotency-Key"
"""The header that carries a caller's own name of a request."""

_CANCEL_TRIES = 10
"""A job that moves between queued and running while it is cancelled does so a few times at most."""


class JobStore(JobLeases):
    """All that is done with jobs; the worker's side is in `JobLeases`. Thread-safe.

    All methods raise DatabaseUnavailable. To a tenant the jobs of others do not exist.
    """

    def create(self, new: NewJob) -> tuple[Job, bool]:
        """Adds a queued job; gives it, and whether this call made it.

        A tenant's earlier job with the same idempotency key and the same body is given instead. After
        DatabaseUnavailable the job may have been made or not: the same call again is safe, it finds that job.

        Raises: InvalidField of ``Idempotency-Key`` when the key was used with another body.
        """
        now = server_time(self._database)
        document = {
            **dataclasses.asdict(new),
            "state": "queued",
            "reason": None,
            "attempt": 0,
            "lost_attempts": 0,
            "worker": None,
            "lease_until": None,
            "renewed_at": None,
            "gpu_seconds": 0.0,
            "attempt_gpu_seconds": 0.0,
            "counted_gpu_seconds": 0.0,
            "unrecorded_attempts": [],
            "progress": None,
            "samples": [],
            "revision": 1,
            "cancel_requested": False,
            "committed_version": None,
            "result": None,
            "created_at": now,
            "updated_at": now,
            "started_at": None,
            "finished_at": None,
            "dispatched_at": now,  # whoever creates a job dispatches it at once
        }
        document["_id"] = document.pop("id")
        with database_errors():
            try:
                self._jobs.insert_one(document)
            except DuplicateKeyError:
                return self._earlier(new)
        return job_from_document(document), True

    def find_earlier(self, tenant: str, idempotency_key: str, body_digest: str) -> Job | None:
        """The tenant's job that an earlier request with this key made; None when there is none.

        Raises: InvalidField of ``Idempotency-Key`` when the key was used with another body.
        """
        with database_errors():
            document = self._jobs.find_one({"tenant": tenant, "idempotency_key": idempotency_key})
        if document is None:
            return None
        if document["body_digest"] != body_digest:
            raise InvalidField.of(IDEMPOTENCY_KEY, "was used before with another body")
        return job_from_document(document)

    def get(self, tenant: str, job_id: str) -> Job:
        """The tenant's job. Raises: NotFound, for another tenant's as well."""
        with database_errors():
            document = self._jobs.find_one({"_id": job_id, "tenant": tenant})
        if document is None:
            raise NotFound(f"There is no job {job_id[:100]!r}.")
        return job_from_document(document)

    def list(
        self,
        tenant: str,
        *,
        state: State | None = None,
        model_name: str | None = None,
        limit: int = 50,
        before: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[Job]:
        """The tenant's jobs, newest first.

        Args:
            tenant: Whose.
            state: Only those in this state.
            model_name: Only those of this model.
            limit: At most this many, at least 1.
            before: Only those older than the job with this id: the last of the page before.
            metadata: Only those with these among their metadata.
        """
        condition: dict[str, object] = {"tenant": tenant}
        if state is not None:
            condition["state"] = state
        if model_name is not None:
            condition["model_name"] = model_name
        if before is not None:
            condition["_id"] = {"$lt": before}
        if metadata:
            pairs = [{"key": key, "value": value} for key, value in metadata.items()]
            condition["fine_tuning.metadata"] = {"$all": pairs}
        with database_errors():
            documents = self._jobs.find(condition).sort("_id", DESCENDING).limit(max(1, limit))
            return [job_from_document(document) for document in documents]

    def positions(self, ids: Collection[str]) -> dict[str, int]:
        """How many jobs, of all tenants, are queued before each of these; one that is not queued is left out."""
        if not ids:
            return {}
        with database_errors():
            queued = self._jobs.find({"state": "queued", "_id": {"$lte": max(ids)}}, ["_id"]).sort("_id", ASCENDING)
            return {document["_id"]: place for place, document in enumerate(queued) if document["_id"] in ids}

    def counts(self, tenant: str) -> dict[State, int]:
        """How many jobs of the tenant are in each state."""
        return {state: self.count(state, tenant=tenant) for state in STATES}

    def count(self, state: State, *, tenant: str | None = None) -> int:
        """How many jobs are in this state: the tenant's, or all when None."""
        condition = {"state": state} if tenant is None else {"state": state, "tenant": tenant}
        with database_errors():
            return self._jobs.count_documents(condition)

    def request_cancel(self, tenant: str, job_id: str) -> Job:
        """Cancels a queued job at once and asks the worker of a running one; gives the job as it is then.

        One that ended stays as it is, and one with a committed version goes on to its end. Raises: NotFound.
        """
        theirs = {"_id": job_id, "tenant": tenant}
        waiting = {**theirs, "state": "queued", "committed_version": None}
        open_ = {**theirs, "$or": [{"state": "running"}, {"state": "queued", "committed_version": {"$ne": None}}]}
        for _ in range(_CANCEL_TRIES):
            job = self.change(waiting, {"cancel_requested": True, **ended("cancelled")})
            job = job or self.change({**open_, "cancel_requested": False}, {"cancel_requested": True})
            job = job or self.get(tenant, job_id)
            if job.ended or job.cancel_requested:
                return job
        raise Conflict(f"The job {job_id[:100]!r} keeps changing; try again.")

    def delete(self, tenant: str, job_id: str) -> None:
        """Removes the record of a job that ended. Raises: NotFound; Conflict when it did not end."""
        with database_errors():
            condition = {"_id": job_id, "tenant": tenant, "state": {"$in": sorted(FINAL_STATES)}}
            deleted = self._jobs.delete_one(condition).deleted_count
        if not deleted:
            job = self.get(tenant, job_id)
            raise Conflict(f"The job {job.id!r} is {job.state}; cancel it first.")

    def undispatched(self, older_than_s: float) -> Sequence[str]:
        """Ids of queued jobs, oldest first, that were last handed to the queue longer ago, or are due at once."""
        latest = server_time(self._database) - timedelta(seconds=older_than_s)
        condition = {"state": "queued", "$or": [{"dispatched_at": None}, {"dispatched_at": {"$lt": latest}}]}
        with database_errors():
            return [document["_id"] for document in self._jobs.find(condition, ["_id"]).sort("_id", ASCENDING)]

    def dispatched(self, job_id: str) -> None:
        """Notes that a queued job was handed to the queue just now; nothing that a client sees."""
        self.change({"_id": job_id, "state": "queued"}, {"dispatched_at": "$$NOW"}, visible=False)

    def _earlier(self, new: NewJob) -> tuple[Job, bool]:
        # Either the key is taken, or a first try of this very call got through with its answer lost.
        job = self.find(new.id)
        if job is not None and (job.tenant, job.body_digest) == (new.tenant, new.body_digest):
            return job, True
        if new.idempotency_key is not None:
            job = self.find_earlier(new.tenant, new.idempotency_key, new.body_digest)
            if job is not None:
                return job, False
        raise Conflict("A job with this id or key was there a moment ago; try again.")
