"""The collection ``jobs``: its indexes, reading it, and the one way in which a job is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument

from enlight.jobkit.database import Documents, database_errors
from enlight.jobkit.jobs import Job, job_from_document
from enlight.jobkit.states import State

COLLECTION = "jobs"

_INDEXES = [
    IndexModel(
        [("tenant", ASCENDING), ("idempotency_key", ASCENDING)],
        name="one_job_per_idempotency_key",
        unique=True,
        partialFilterExpression={"idempotency_key": {"$type": "string"}},
    ),
    IndexModel([("tenant", ASCENDING), ("_id", DESCENDING)], name="newest_of_a_tenant"),
    IndexModel([("tenant", ASCENDING), ("state", ASCENDING)], name="states_of_a_tenant"),
    IndexModel([("state", ASCENDING), ("_id", ASCENDING)], name="line_of_waiting"),
    IndexModel([("state", ASCENDING), ("lease_until", ASCENDING)], name="leases"),
    IndexModel([("state", ASCENDING), ("finished_at", ASCENDING)], name="ends"),
    IndexModel([("unrecorded_attempts.attempt", ASCENDING)], name="attempts_to_record"),
]


class JobCollection:
    """What the worker's and the gateway's side share. Thread-safe; all methods raise DatabaseUnavailable."""

    def __init__(self, database: Documents) -> None:
        self._database = database
        self._jobs = database[COLLECTION]

    def make_indexes(self) -> None:
        """Makes the indexes that are missing; call it once before the first job is created."""
        with database_errors():
            self._jobs.create_indexes(_INDEXES)

    def find(self, job_id: str) -> Job | None:
        """The job, whoever's it is; None when there is none."""
        with database_errors():
            document = self._jobs.find_one({"_id": job_id})
        return job_from_document(document) if document else None

    def find_many(self, ids: Iterable[str]) -> dict[str, Job]:
        """The jobs with these ids, by id, in one read; an id without a job is left out."""
        with database_errors():
            documents = list(self._jobs.find({"_id": {"$in": list(ids)}}))
        return {document["_id"]: job_from_document(document) for document in documents}

    def change(
        self, condition: Mapping[str, object], values: Mapping[str, object], *, visible: bool = True
    ) -> Job | None:
        """Changes one job that meets the condition, in one step; gives it as it is then, None when none meets it.

        Args:
            condition: A plain filter.
            values: New values, each an aggregation expression: the caller's own go through `literal`.
            visible: Whether a client can see the change: the revision grows then.
        """
        changes: dict[str, object] = {**values, "updated_at": "$$NOW"}
        if visible:
            changes["revision"] = {"$add": ["$revision", 1]}
        with database_errors():
            document = self._jobs.find_one_and_update(
                condition, [{"$set": changes}], return_document=ReturnDocument.AFTER
            )
        return job_from_document(document) if document else None


def literal(value: object) -> dict[str, object]:
    """``value`` as itself in a change: without this a text such as ``$state`` would be the field of that name."""
    return {"$literal": value}


def ended(state: State) -> dict[str, object]:
    """The values of a job that ends in ``state``."""
    return {"state": state, "finished_at": "$$NOW", "lease_until": None}
