"""What a tenant used, added up by day and route."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from enlight.jobkit.database import Documents, database_errors
from enlight.main_api.usage.records import COLLECTION
from enlight.main_api.usage.training_time import ROUTE as TRAINING

_AMOUNTS = ("gpu_seconds", "received_bytes", "sent_bytes")


@dataclass(frozen=True)
class UsageSum:
    """What one day's requests of one route used, or its attempts at trainings."""

    day: date
    route: str
    """The route's rule; empty: none of ours; ``training``: workers' time."""
    requests: int
    gpu_seconds: float
    received_bytes: int
    sent_bytes: int


class UsageSums:
    """Adds up the collection ``usage``."""

    def __init__(self, database: Documents) -> None:
        self._usage = database[COLLECTION]

    def of(self, tenant: str, first_day: date, last_day: date) -> list[UsageSum]:
        """The tenant's sums, the newest day first. Days are of UTC; both are included.

        Raises:
            DatabaseUnavailable: also when there is more to add up than can be in the time of a call.
        """
        within = {
            "$gte": datetime.combine(first_day, time.min, UTC),
            "$lte": datetime.combine(last_day, time.max, UTC),
        }
        day = {"$dateToString": {"format": "%Y-%m-%d", "date": "$at"}}
        # One: a record from before a document could be of several requests.
        requests = {"$cond": [{"$eq": ["$route", TRAINING]}, 0, {"$ifNull": ["$requests", 1]}]}
        pipeline: list[dict[str, object]] = [
            {"$match": {"tenant": tenant, "at": within}},
            {
                "$group": {
                    "_id": {"day": day, "route": "$route"},
                    "requests": {"$sum": requests},
                    **{amount: {"$sum": f"${amount}"} for amount in _AMOUNTS},
                }
            },
            {"$sort": {"_id.day": -1, "_id.route": 1}},
        ]
        with database_errors():
            rows = list(self._usage.aggregate(pipeline))
        return [
            UsageSum(
                date.fromisoformat(row["_id"]["day"]),
                row["_id"]["route"],
                row["requests"],
                **{amount: row[amount] for amount in _AMOUNTS},
            )
            for row in rows
        ]
