"""Requests of the last hours as a chart and by route, from the sums that were kept."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from enlight.jobkit.database import Documents, database_errors
from enlight.main_api.usage.traffic import COLLECTION, RESOLUTIONS, TrafficSums, begin_of_span, sums_of

MAX_HOURS = RESOLUTIONS[-1].hours


@dataclass(frozen=True)
class TrafficStats:
    """What was asked of the gateways.

    Attributes:
        begin: Of the first span.
        end: Now.
        step_s: Length of a span.
        series: Every span of the time, the oldest first; without requests too.
        routes: The most asked one first.
    """

    begin: datetime
    end: datetime
    step_s: int
    series: dict[datetime, TrafficSums]
    routes: dict[str, TrafficSums]


class TrafficHistory:
    """Reads the collection ``traffic``."""

    def __init__(self, database: Documents) -> None:
        self._traffic = database[COLLECTION]

    def last(self, hours: int, tenant: str | None) -> TrafficStats:
        """The last hours, at most a week, of a tenant or of all. Raises: DatabaseUnavailable."""
        step_s = next(resolution.step_s for resolution in RESOLUTIONS if hours <= resolution.hours)
        end = datetime.now(UTC)
        begin = begin_of_span(end - timedelta(hours=hours), step_s)
        spans = int((end - begin).total_seconds()) // step_s + 1
        series = {begin + timedelta(seconds=step_s * number): TrafficSums() for number in range(spans)}
        routes: dict[str, TrafficSums] = defaultdict(TrafficSums)
        with database_errors():
            for document in self._traffic.find({"tenant": tenant, "step_s": step_s, "at": {"$gte": begin}}):
                sums = sums_of(document)
                routes[document["route"]].add(sums)
                if document["at"] in series:  # else a gateway whose clock is ahead
                    series[document["at"]].add(sums)
        most_asked = sorted(routes.items(), key=lambda each: (-each[1].requests, each[0]))
        return TrafficStats(begin, end, step_s, series, dict(most_asked))
