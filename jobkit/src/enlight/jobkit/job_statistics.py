"""What an operator asks of the jobs of all tenants, or of one: who has them, how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING

from enlight.jobkit.database import database_errors, server_time
from enlight.jobkit.job_collection import JobCollection
from enlight.jobkit.states import FINAL_STATES, STATES, State

MAX_HOLDERS = 1000


@dataclass(frozen=True)
class JobHolder:
    """A worker that has a job."""

    worker: str
    """``host:process``."""
    job_id: str
    renewed_at: datetime | None
    is_alive: bool
    """Whether its lease runs."""


class JobStatistics(JobCollection):
    """Reads only. Thread-safe; all methods raise DatabaseUnavailable."""

    def holders(self) -> list[JobHolder]:
        """Who has which job now."""
        now = server_time(self._database)
        fields = ["worker", "renewed_at", "lease_until"]
        with database_errors():
            rows = list(self._jobs.find({"state": "running"}, fields).limit(MAX_HOLDERS))
        return [JobHolder(row["worker"], row["_id"], row.get("renewed_at"), row["lease_until"] >= now) for row in rows]

    def counts(self, tenant: str | None = None, *, ended_since: datetime | None = None) -> dict[State, int]:
        """How many jobs, of a tenant or of all, are in each state; ``ended_since``: not those that ended before."""
        return {state: self._count(state, tenant, ended_since) for state in STATES}

    def count(self, state: State) -> int:
        """How many jobs of all tenants are in this state."""
        return self._count(state, None, None)

    def oldest_queued_age_s(self) -> float:
        """How long ago the oldest of the queued jobs was accepted; 0 when none waits."""
        now = server_time(self._database)
        with database_errors():
            oldest = self._jobs.find_one({"state": "queued"}, ["created_at"], sort=[("_id", ASCENDING)])
        return 0.0 if oldest is None else max(0.0, (now - oldest["created_at"]).total_seconds())

    def _count(self, state: State, tenant: str | None, ended_since: datetime | None) -> int:
        condition: dict[str, object] = {"state": state}
        if tenant is not None:
            condition["tenant"] = tenant
        if ended_since is not None and state in FINAL_STATES:
            condition["finished_at"] = {"$gte": ended_since}
        with database_errors():
            return self._jobs.count_documents(condition)
