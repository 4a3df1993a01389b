"""What a tenant sees of its webhooks' deliveries, and the one thing that it can do about one."""

from __future__ import annotations

from typing import Any

from pymongo import ReturnDocument

from enlight.jobkit.database import Documents, database_errors
from enlight.main_api.webhooks.deliveries import COLLECTION
from enlight.servicekit.errors import Conflict, NotFound

_NOT_THE_BODY = {"body": 0}


class DeliveryLog:
    """The deliveries as records, without their bodies. Methods raise DatabaseUnavailable.

    To a tenant the deliveries of others do not exist.
    """

    def __init__(self, database: Documents) -> None:
        self._deliveries = database[COLLECTION]

    def list(
        self, tenant: str, *, training_id: str | None = None, limit: int, before: str | None = None
    ) -> list[dict[str, Any]]:
        """The tenant's deliveries, those of the newest trainings first.

        Args:
            tenant: Whose.
            training_id: Only those of this training.
            limit: At most this many, at least 1.
            before: Only those older than the one with this id: the last of the page before.
        """
        condition: dict[str, object] = {"tenant": tenant}
        if training_id is not None:
            condition["job_id"] = training_id
        if before is not None:
            condition["_id"] = {"$lt": before}
        with database_errors():
            return list(self._deliveries.find(condition, _NOT_THE_BODY).sort("_id", -1).limit(limit))

    def retry(self, tenant: str, delivery_id: str) -> dict[str, Any]:
        """Has a delivery that was given up tried once more, at once; gives its record.

        Raises:
            NotFound: the tenant has no such delivery; the given up ones are kept for a week.
            Conflict: it was not given up.
        """
        theirs = {"_id": delivery_id, "tenant": tenant}
        # The tries go on being counted: a claim of before, whoever still holds it, stays a claim of before.
        due = {"state": "due", "next_attempt_at": "$$NOW", "finished_at": None}
        with database_errors():
            row = self._deliveries.find_one_and_update(
                {**theirs, "state": "given_up"},
                [{"$set": due}],
                projection=_NOT_THE_BODY,
                return_document=ReturnDocument.AFTER,
            )
            other = None if row is not None else self._deliveries.find_one(theirs, ["state"])
        if row is not None:
            return row
        if other is None:
            raise NotFound(f"There is no delivery {delivery_id[:100]!r}.")
        raise Conflict("Only a delivery that was given up is tried again.", details={"state": other["state"]})
