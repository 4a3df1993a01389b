"""One record per request, collection ``usage``, written beside the requests.

A record never delays or fails a request. What cannot be written waits, up to a bound; beyond it records are dropped,
and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bson import ObjectId
from flask import Flask, Response, g, request
from pymongo.errors import BulkWriteError

from enlight.jobkit.database import Documents, database_errors
from enlight.main_api.background import Repeating
from enlight.main_api.keys.tenants import Caller
from enlight.servicekit.errors import DatabaseUnavailable

_log = logging.getLogger(__name__)

COLLECTION = "usage"
WRITE_EVERY_S = 0.5
BATCH = 50
"""Written at once: small, so that whoever asks the database meanwhile does not wait for long."""
_DUPLICATE_KEY = 11000


@dataclass(frozen=True)
class UsageRecord:
    """What one request used."""

    tenant: str
    key_id: str
    method: str
    route: str
    """The route's rule; empty for no route."""
    status: int
    seconds: float
    """To the end of the answer."""
    received_bytes: int
    sent_bytes: int
    gpu_seconds: float = 0.0
    """As the service behind says; 0 for an answer from the cache."""
    model: str | None = None
    """The tenant's name of it."""
    request_id: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class UsageNotes:
    """What only a route knows about its request."""

    model: str | None = None
    gpu_seconds: float = 0.0


class UsageRecorder:
    """Takes records at once and writes them in batches.

    Args:
        database: Gets them.
        max_waiting: Records kept while the database is away.
    """

    def __init__(self, database: Documents, *, max_waiting: int) -> None:
        self._usage = database[COLLECTION]
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: deque[dict[str, object]] = deque()
        self._dropped = 0
        self._writer = Repeating(self.write_waiting, every_s=WRITE_EVERY_S, name="usage")

    @property
    def dropped(self) -> int:
        """Records that were lost since the start."""
        return self._dropped

    @property
    def waiting(self) -> int:
        """Records not written yet."""
        return len(self._waiting)

    def make_indexes(self) -> None:
        """The index by tenant and time; safe to call again. Raises DatabaseUnavailable."""
        with database_errors():
            self._usage.create_index([("tenant", 1), ("at", 1)])

    def start(self) -> None:
        """Begins to write."""
        self._writer.start()

    def stop(self) -> None:
        """Writes what waits, if the database is there, and ends."""
        self._writer.stop()
        try:
            self.write_waiting()
        except DatabaseUnavailable:
            _log.warning("%d usage records are lost: the database is away", self.waiting)

    def record(self, record: UsageRecord) -> None:
        """Takes a record; never waits, never fails."""
        # The id is made here, so that a batch may be written twice after a lost confirmation.
        document = {"_id": ObjectId(), **vars(record)}
        with self._lock:
            if len(self._waiting) < self._max_waiting:
                self._waiting.append(document)
            else:
                self._dropped += 1

    def write_waiting(self) -> None:
        """Writes all that waits. Raises DatabaseUnavailable; what was not written waits on."""
        with self._writing:
            while self._waiting:
                with self._lock:
                    batch = [self._waiting[index] for index in range(min(BATCH, len(self._waiting)))]
                self._write(batch)
                with self._lock:
                    for _ in batch:
                        self._waiting.popleft()

    def _write(self, batch: list[dict[str, object]]) -> None:
        with database_errors():
            try:
                self._usage.insert_many(batch, ordered=False)
            except BulkWriteError as error:
                if any(problem["code"] != _DUPLICATE_KEY for problem in error.details["writeErrors"]):
                    raise


def install(app: Flask, recorder: UsageRecorder) -> None:
    """Records every request of a known caller; to be called after authentication was installed."""

    @app.before_request
    def begin() -> None:
        g.usage = UsageNotes()

    @app.after_request
    def record_at_the_end(response: Response) -> Response:
        caller: Caller | None = g.get("caller")
        if caller is None:
            return response
        notes, started_s, request_id = usage_notes(), g.started_s, g.request_id
        method, rule = request.method[:20], request.url_rule.rule if request.url_rule else ""
        received_bytes = request.content_length or 0

        def record() -> None:
            recorder.record(
                UsageRecord(
                    tenant=caller.tenant,
                    key_id=caller.key_id,
                    method=method,
                    route=rule,
                    status=response.status_code,
                    seconds=round(time.monotonic() - started_s, 4),
                    received_bytes=received_bytes,
                    sent_bytes=response.content_length or 0,
                    gpu_seconds=notes.gpu_seconds,
                    model=notes.model,
                    request_id=request_id,
                )
            )

        if response.is_streamed:
            response.call_on_close(record)
        else:
            record()
        return response


def usage_notes() -> UsageNotes:
    """Where a route of the current request notes what it used."""
    if "usage" not in g:
        g.usage = UsageNotes()
    notes: UsageNotes = g.usage
    return notes
