"""Requests by minute, ten minutes and hour, of each tenant and of all together.

These sums are kept, so that a chart of a week costs no more than one of an hour.

A document of the collection ``traffic`` is one span of time of one route, as one gateway saw it. It is written again,
whole, while its numbers grow, and only by the process that made it: to write it twice does no harm.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from enlight.jobkit.database import DUPLICATE_KEY, Documents, database_errors
from enlight.main_api.background import Repeating
from enlight.main_api.usage.durations import range_of
from enlight.main_api.usage.records import UsageRecord
from enlight.servicekit.errors import DatabaseUnavailable

_log = logging.getLogger(__name__)

COLLECTION = "traffic"
WRITE_EVERY_S = 5.0
DOCUMENTS_AT_ONCE = 20
KEPT_LONGER = timedelta(days=1)
"""A document than anybody may ask for."""
CLOSED_AFTER = timedelta(minutes=2)
"""From the end of a span: what comes later is a document of its own."""


@dataclass(frozen=True)
class Resolution:
    """Sums of spans of ``step_s`` seconds answer questions of up to so many hours."""

    step_s: int
    hours: int


RESOLUTIONS = (Resolution(60, 3), Resolution(600, 33), Resolution(3600, 168))
"""The finest first; each gives at most 200 spans, and a begin of one is a begin of those before it."""


@dataclass
class TrafficSums:
    """What is counted."""

    requests: int = 0
    errors: int = 0
    """Answers of 400 and above."""
    cache_hits: int = 0
    cache_misses: int = 0
    durations: Counter[int] = field(default_factory=Counter)
    """Answers by the range of their duration."""

    def count(self, record: UsageRecord) -> None:
        """One more request."""
        self.requests += 1
        self.errors += record.status >= 400
        self.cache_hits += record.cache == "hit"
        self.cache_misses += record.cache == "miss"
        self.durations[range_of(record.seconds if record.began_s is None else record.began_s)] += 1

    def add(self, more: TrafficSums) -> None:
        """The requests of both."""
        self.requests += more.requests
        self.errors += more.errors
        self.cache_hits += more.cache_hits
        self.cache_misses += more.cache_misses
        self.durations.update(more.durations)


@dataclass(frozen=True)
class _Span:
    """Of what the sums are."""

    tenant: str | None
    """None: all together."""
    route: str
    step_s: int
    at: datetime


@dataclass
class _Kept:
    """Sums with the id of their document."""

    id: ObjectId = field(default_factory=ObjectId)
    sums: TrafficSums = field(default_factory=TrafficSums)
    is_there: bool = False
    """Whether there is a document of this id."""
    is_written: bool = False
    """Whether it is as the sums are."""


class Traffic:
    """Counts requests, and writes the sums down beside them.

    Args:
        database: Gets them.
    """

    def __init__(self, database: Documents) -> None:
        self._traffic = database[COLLECTION]
        self._lock = threading.Lock()
        self._new: dict[tuple[str, str, datetime], TrafficSums] = {}
        """Since the last write: by tenant, route and minute, which is the shortest span."""
        self._writing = threading.Lock()
        self._kept: dict[_Span, _Kept] = {}
        self._writer = Repeating(self.write, every_s=WRITE_EVERY_S, name="traffic")

    def make_indexes(self) -> None:
        """The index of the questions, and the documents' end; safe to call again. Raises DatabaseUnavailable."""
        with database_errors():
            self._traffic.create_index([("tenant", 1), ("step_s", 1), ("at", 1)])
            self._traffic.create_index("expires_at", expireAfterSeconds=0)

    def start(self) -> None:
        """Begins to write."""
        self._writer.start()

    def stop(self) -> None:
        """Writes what is new, if the database is there, and ends."""
        self._writer.stop()
        try:
            self.write()
        except DatabaseUnavailable:
            _log.warning("the newest sums of requests are lost: the database is away")

    def count(self, record: UsageRecord) -> None:
        """One more request; never waits for the database."""
        with self._lock:
            key = record.tenant, record.route, record.at.replace(second=0, microsecond=0)
            self._new.setdefault(key, TrafficSums()).count(record)

    def write(self) -> None:
        """Writes what is new. Raises: DatabaseUnavailable; it is written the next time."""
        with self._writing:
            self._add_new()
            changed = [(span, kept) for span, kept in self._kept.items() if not kept.is_written]
            new = [each for each in changed if not each[1].is_there]
            known = [each for each in changed if each[1].is_there]
            for write, spans in ((self._insert, new), (self._replace, known)):
                for start in range(0, len(spans), DOCUMENTS_AT_ONCE):
                    write(spans[start : start + DOCUMENTS_AT_ONCE])
            now = datetime.now(UTC)
            self._kept = {
                span: kept for span, kept in self._kept.items() if not (kept.is_written and _is_closed(span, now))
            }

    def _add_new(self) -> None:
        with self._lock:
            new, self._new = self._new, {}
        for (tenant, route, minute), sums in new.items():
            for resolution in RESOLUTIONS:
                for whose in (tenant, None):
                    span = _Span(whose, route, resolution.step_s, begin_of_span(minute, resolution.step_s))
                    kept = self._kept.setdefault(span, _Kept())
                    kept.sums.add(sums)
                    kept.is_written = False

    def _insert(self, new: list[tuple[_Span, _Kept]]) -> None:
        with database_errors():
            try:
                self._traffic.insert_many([_document(span, kept) for span, kept in new], ordered=False)
                were_there = False
            except BulkWriteError as error:
                if any(problem["code"] != DUPLICATE_KEY for problem in error.details["writeErrors"]):
                    raise
                were_there = True  # since a write whose confirmation was lost; they are replaced the next time
        for _, kept in new:
            kept.is_there, kept.is_written = True, not were_there

    def _replace(self, changed: list[tuple[_Span, _Kept]]) -> None:
        with database_errors():
            self._traffic.bulk_write(
                [ReplaceOne({"_id": kept.id}, _document(span, kept)) for span, kept in changed], ordered=False
            )
        for _, kept in changed:
            kept.is_written = True


def begin_of_span(at: datetime, step_s: int) -> datetime:
    """Where the span of ``at`` begins; spans of an hour and less begin with an hour of UTC."""
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % step_s, UTC)


def sums_of(document: dict[str, Any]) -> TrafficSums:
    """What a document has."""
    return TrafficSums(
        requests=document["requests"],
        errors=document["errors"],
        cache_hits=document["cache_hits"],
        cache_misses=document["cache_misses"],
        durations=Counter({int(number): count for number, count in document["durations"].items()}),
    )


def _document(span: _Span, kept: _Kept) -> dict[str, Any]:
    (hours,) = (resolution.hours for resolution in RESOLUTIONS if resolution.step_s == span.step_s)
    sums = vars(kept.sums) | {"durations": {str(number): count for number, count in kept.sums.durations.items()}}
    return {"_id": kept.id, **vars(span), **sums, "expires_at": span.at + timedelta(hours=hours) + KEPT_LONGER}


def _is_closed(span: _Span, now: datetime) -> bool:
    return span.at + timedelta(seconds=span.step_s) + CLOSED_AFTER < now
