"""The queue of webhook deliveries, in MongoDB: what was promised is delivered by whichever gateway lives.

A delivery is noted before its job is created (``waiting``), gets its body when the job has ended (``due``), and is
tried by one gateway at a time, under a lease, until its receiver answers with 2xx (``delivered``) or eight tries over
about a day have failed (``given_up``). A gateway that dies within a try costs that try and the lease's time.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.database import Database

from enlight.jobkit.database import database_errors, server_time
from enlight.main_api.webhooks.webhooks import event_id

FIRST_RETRY_S = 15.0
RETRY_FACTOR = 4.0
"""15 s, 1 min, 4 min, 16 min, 1 h, 4 h, 17 h: eight tries within about 23 hours."""
JITTER = 0.2
KEPT_S = 7 * 24 * 3600
"""Ended deliveries are kept this long, for whoever looks for a lost one."""
COLLECTION = "webhook_deliveries"
TRIED_AT_ONCE = 2
"""Deliveries of one tenant that all gateways together try at once, more or less: one whose receivers do not answer must
not hold up the others' deliveries."""


def retry_delay_s(attempts: int, jitter: float) -> float:
    """Seconds from the failure of try number ``attempts`` (from 1) to the next; ``jitter`` from -1 to 1."""
    return FIRST_RETRY_S * RETRY_FACTOR ** (attempts - 1) * (1 + JITTER * jitter)


@dataclass(frozen=True)
class Expected:
    """A delivery whose job has not been seen to end."""

    job_id: str
    created_at: datetime


@dataclass(frozen=True)
class Delivery:
    """A claimed delivery: this process tries it now."""

    id: str
    """Of the event."""
    tenant: str
    job_id: str
    url: str
    body: str
    request_id: str | None
    """Of the request that began the training."""
    attempts: int
    """Tries so far, this one included; what ends the claim names it."""


class WebhookDeliveries:
    """The collection ``webhook_deliveries``. Methods raise DatabaseUnavailable when it does not answer in time.

    Args:
        database: The database.
        lease_s: Time in which a claimed delivery must be told about; longer than a try can take.
        max_attempts: Tries before a delivery is given up.
    """

    def __init__(self, database: Database[dict[str, Any]], *, lease_s: float, max_attempts: int) -> None:
        self._database = database
        self._deliveries = database[COLLECTION]
        self._lease_s = lease_s
        self._max_attempts = max_attempts

    def make_indexes(self) -> None:
        """Makes the indexes, if they are not there."""
        with database_errors():
            self._deliveries.create_index([("state", 1), ("next_attempt_at", 1)], name="state_next")
            self._deliveries.create_index("finished_at", expireAfterSeconds=KEPT_S, name="finished")
            self._deliveries.create_index([("tenant", 1), ("_id", -1)], name="newest_of_a_tenant")
            self._deliveries.create_index([("state", 1), ("lease_until", 1)], name="state_lease")

    def expect(self, job_id: str, tenant: str, url: str) -> None:
        """Notes that the end of this job, which is about to be created, is to be told to ``url``."""
        with database_errors():
            self._deliveries.insert_one(
                {
                    "_id": event_id(job_id),
                    "tenant": tenant,
                    "job_id": job_id,
                    "url": url,
                    "state": "waiting",
                    "type": None,
                    "body": None,
                    "request_id": None,
                    "attempts": 0,
                    "created_at": datetime.now(UTC),
                    "next_attempt_at": None,
                    "lease_until": None,
                    "last_status": None,
                    "last_error": None,
                    "finished_at": None,
                }
            )

    def forget(self, job_id: str) -> None:
        """Drops the delivery of a job that is not there, or no more."""
        with database_errors():
            self._deliveries.delete_one({"_id": event_id(job_id)})

    def waiting(self) -> list[Expected]:
        """Every delivery whose job has not been seen to end: at most as many as there are unfinished trainings."""
        with database_errors():
            rows = list(self._deliveries.find({"state": "waiting"}, {"job_id": 1, "created_at": 1}))
        return [Expected(row["job_id"], row["created_at"]) for row in rows]

    def make_due(self, job_id: str, event_type: str, body: str, *, request_id: str | None = None) -> None:
        """The job has ended: ``body`` is to be delivered from now on. Once; a second call changes nothing."""
        told = {
            "type": {"$literal": event_type},
            "body": {"$literal": body},
            "request_id": {"$literal": request_id},
        }
        with database_errors():
            self._deliveries.update_one(
                {"_id": event_id(job_id), "state": "waiting"},
                [{"$set": {"state": "due", "next_attempt_at": "$$NOW", **told}}],
            )

    def any_due(self) -> bool:
        """Whether there may be something to claim; one small question, unlike `claim`."""
        with database_errors():
            due = {"state": "due", "next_attempt_at": {"$lte": server_time(self._database)}}
            return self._deliveries.find_one(due, {"_id": 1}) is not None

    def claim(self) -> Delivery | None:
        """A delivery that is due and that nobody tries now; None: there is none."""
        with database_errors():
            now = server_time(self._database)
            row = self._deliveries.find_one_and_update(
                {
                    "state": "due",
                    "next_attempt_at": {"$lte": now},
                    "tenant": {"$nin": self._busy_tenants(now)},
                    "$or": [{"lease_until": None}, {"lease_until": {"$lt": now}}],
                },
                [
                    {
                        "$set": {
                            "lease_until": {"$add": ["$$NOW", round(self._lease_s * 1000)]},
                            "attempts": {"$add": ["$attempts", 1]},
                        }
                    }
                ],
                sort=[("next_attempt_at", 1)],
                return_document=ReturnDocument.AFTER,
            )
        if row is None:
            return None
        return Delivery(
            row["_id"], row["tenant"], row["job_id"], row["url"], row["body"], row.get("request_id"), row["attempts"]
        )

    def delivered(self, delivery: Delivery, status: int) -> None:
        """Its receiver has it."""
        self._end(delivery, "delivered", {"last_status": status, "last_error": None})

    def failed(self, delivery: Delivery, problem: str, status: int | None = None) -> bool:
        """This try failed: True when there will be another, False when it was the last.

        Args:
            delivery: Which one.
            problem: What went wrong; its tenant reads it.
            status: What the receiver answered, if it did.
        """
        outcome: dict[str, object] = {"last_status": status, "last_error": problem[:500]}
        if delivery.attempts >= self._max_attempts:
            self._end(delivery, "given_up", outcome)
            return False
        delay = timedelta(seconds=retry_delay_s(delivery.attempts, random.uniform(-1, 1)))
        with database_errors():
            next_attempt_at = server_time(self._database) + delay
            self._deliveries.update_one(
                self._claimed(delivery),
                {"$set": {"next_attempt_at": next_attempt_at, "lease_until": None, **outcome}},
            )
        return True

    def _end(self, delivery: Delivery, state: str, outcome: dict[str, object]) -> None:
        ended = {"state": state, "finished_at": datetime.now(UTC), "lease_until": None, **outcome}
        with database_errors():
            self._deliveries.update_one(self._claimed(delivery), {"$set": ended})

    def _busy_tenants(self, now: datetime) -> list[str]:
        tried = self._deliveries.find({"state": "due", "lease_until": {"$gte": now}}, {"tenant": 1})
        counts = Counter(row["tenant"] for row in tried)
        return [tenant for tenant, count in counts.items() if count >= TRIED_AT_ONCE]

    def _claimed(self, delivery: Delivery) -> dict[str, object]:
        # A claim whose lease ran out and that somebody else took has another number: it says nothing any more.
        return {"_id": delivery.id, "state": "due", "attempts": delivery.attempts}
