"""A record of each request, collection ``usage``, written beside the requests.

A record never delays or fails a request. What cannot be written waits, up to a bound; beyond it records are dropped,
and counted. Requests of the same kind that came together are one document, which has what they differ in by columns: a
busy gateway would else be busiest with writing down what it did.

A record of an error has what the client was told, its code and message.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from bson import ObjectId
from flask import Flask, Response, g
from pymongo.errors import BulkWriteError

from enlight.jobkit.database import DUPLICATE_KEY, Documents, database_errors
from enlight.main_api.background import Repeating
from enlight.main_api.keys.tenants import Caller
from enlight.servicekit.errors import DatabaseUnavailable
from enlight.servicekit.http_bodies import ServiceRequest, this_request

_log = logging.getLogger(__name__)

COLLECTION = "usage"
WRITE_EVERY_S = 0.25
RECORDS_AT_ONCE = 500
"""Put together into documents at once."""
DOCUMENTS_AT_ONCE = 20
"""Written at once: few, so that whoever asks the database meanwhile does not wait for long."""
HURRY_FROM = 1000
"""From so many records that wait on there are no pauses between the writes."""

_OF_EACH = ("request_id", "at", "seconds", "received_bytes", "sent_bytes")
"""In what requests of one kind differ; the numbers among them are added up for the document."""
_ADDED_UP = ("seconds", "received_bytes", "sent_bytes")
_OF_SOME = ("cache", "code", "message")
"""A document has these where there is something to say."""
_NOT_KEPT = ("began_s",)
ERROR_MARK = "error_mark"
"""A field that documents of errors have, and no others: milliseconds since 1970 and the id, which sorts by time."""

MAX_MESSAGE_CHARS = 500
MAX_ERROR_BYTES = 64 * 1024
"""A longer answer is not looked into for its code and message."""


class UsageRecord(NamedTuple):
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
    at: datetime
    gpu_seconds: float = 0.0
    """As the service behind says; 0 for an answer from the cache."""
    model: str | None = None
    """The tenant's name of it."""
    cache: str | None = None
    """``hit`` or ``miss``, where the answer said so."""
    code: str | None = None
    """Of an error; None also for one without the suite's body."""
    message: str | None = None
    began_s: float | None = None
    """Of a stream of events: to its beginning, which is what its client waits for."""
    request_id: str = ""


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
        taken: Told of each record once, when it is about to be written.
    """

    def __init__(
        self, database: Documents, *, max_waiting: int, taken: Callable[[UsageRecord], None] = lambda record: None
    ) -> None:
        self._usage = database[COLLECTION]
        self._taken = taken
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: deque[UsageRecord] = deque()
        self._unwritten: deque[dict[str, Any]] = deque()
        self._count = 0
        self._dropped = 0
        self._stopping = threading.Event()
        self._writer = Repeating(self.write_waiting, every_s=WRITE_EVERY_S, name="usage")

    @property
    def dropped(self) -> int:
        """Records that were lost since the start."""
        return self._dropped

    @property
    def waiting(self) -> int:
        """Records not written yet."""
        return self._count

    def make_indexes(self) -> None:
        """The index by tenant and time; safe to call again. Raises DatabaseUnavailable."""
        with database_errors():
            self._usage.create_index([("tenant", 1), ("at", 1)])

    def start(self) -> None:
        """Begins to write."""
        self._writer.start()

    def stop(self) -> None:
        """Writes what waits, without pauses, if the database is there, and ends."""
        self._stopping.set()
        self._writer.stop()
        try:
            self.write_waiting()
        except DatabaseUnavailable:
            _log.warning("%d usage records are lost: the database is away", self.waiting)

    def record(self, record: UsageRecord) -> None:
        """Takes a record; never waits, never fails."""
        with self._lock:
            if self._count < self._max_waiting:
                self._waiting.append(record)
                self._count += 1
            else:
                self._dropped += 1

    def write_waiting(self) -> None:
        """Writes what waits now; after each write others have the database for as long as it took.

        What comes meanwhile waits for the next time, or there would always be a little to write.

        Raises: DatabaseUnavailable; what was not written waits on.
        """
        with self._writing:
            left = self._count
            while left > 0 and (self._unwritten or self._waiting):
                if not self._unwritten:
                    self._put_together()
                batch = [self._unwritten[index] for index in range(min(DOCUMENTS_AT_ONCE, len(self._unwritten)))]
                began_s = time.monotonic()
                self._write(batch)
                for _ in batch:
                    self._unwritten.popleft()
                written = sum(document["requests"] for document in batch)
                left -= written
                with self._lock:
                    self._count -= written
                if self._count < HURRY_FROM:
                    self._stopping.wait(time.monotonic() - began_s)

    def _put_together(self) -> None:
        # Once: a document whose confirmation was lost is written again as it was, under the same id.
        taken = [self._waiting.popleft() for _ in range(min(RECORDS_AT_ONCE, len(self._waiting)))]
        for record in taken:
            self._taken(record)
        self._unwritten.extend(_documents(taken))

    def _write(self, batch: list[dict[str, Any]]) -> None:
        with database_errors():
            try:
                self._usage.insert_many(batch, ordered=False)
            except BulkWriteError as error:
                if any(problem["code"] != DUPLICATE_KEY for problem in error.details["writeErrors"]):
                    raise


def _documents(records: Iterable[UsageRecord]) -> list[dict[str, Any]]:
    """The records as the database has them: those of one kind and day that took no GPU are one document.

    What they differ in it has by columns: a database is as busy with a line as with a small document.
    """
    documents: list[dict[str, Any]] = []
    of_kind: dict[tuple[object, ...], dict[str, Any]] = {}
    for record in records:
        values = {name: value for name, value in record._asdict().items() if name not in _NOT_KEPT}
        values = {name: value for name, value in values.items() if value is not None or name not in _OF_SOME}
        kind = (record.at.date(), *(each for each in values.items() if each[0] not in _OF_EACH))
        document = None if record.gpu_seconds else of_kind.get(kind)
        if document is None:
            document = of_kind[kind] = {"_id": ObjectId(), **values, "requests": 1}
            if record.status >= 400:
                document[ERROR_MARK] = f"{round(record.at.timestamp() * 1000):013d}-{document['_id']}"
            documents.append(document)
        else:
            _add(document, values)
    return documents


def _add(document: dict[str, Any], values: dict[str, Any]) -> None:
    each = document.setdefault("each", {name: [document[name]] for name in _OF_EACH})
    for name in _OF_EACH:
        each[name].append(values[name])
    document["requests"] += 1
    for name in _ADDED_UP:
        document[name] += values[name]


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
        request, notes = this_request(), usage_notes()
        code, message = _told_error(request, response)
        began_s = _seconds_of(request) if response.mimetype == "text/event-stream" else None

        def record() -> None:
            recorder.record(
                UsageRecord(
                    tenant=caller.tenant,
                    key_id=caller.key_id,
                    method=request.method[:20],
                    route=request.rule or "",
                    status=response.status_code,
                    seconds=_seconds_of(request),
                    received_bytes=request.content_length or 0,
                    sent_bytes=response.content_length or 0,
                    gpu_seconds=notes.gpu_seconds,
                    model=notes.model,
                    cache=response.headers.get("X-Cache"),
                    code=code,
                    message=message,
                    began_s=began_s,
                    request_id=request.request_id,
                    at=datetime.now(UTC),
                )
            )

        if response.is_streamed:
            response.call_on_close(record)
        else:
            record()
        return response


def _seconds_of(request: ServiceRequest) -> float:
    return round(time.monotonic() - request.started_s, 4)


def _told_error(request: ServiceRequest, response: Response) -> tuple[str | None, str | None]:
    """Code and message of an error, also of one that a service behind gave."""
    if (told := request.told_error) is not None:
        return told.code[:MAX_MESSAGE_CHARS], told.message[:MAX_MESSAGE_CHARS]
    if response.status_code < 400 or response.is_streamed or (response.content_length or 0) > MAX_ERROR_BYTES:
        return None, None
    try:
        body = json.loads(response.get_data())
        return str(body["error"]["code"])[:MAX_MESSAGE_CHARS], str(body["message"])[:MAX_MESSAGE_CHARS]
    except (ValueError, KeyError, TypeError):
        return None, None


def usage_notes() -> UsageNotes:
    """Where a route of the current request notes what it used."""
    if "usage" not in g:
        g.usage = UsageNotes()
    notes: UsageNotes = g.usage
    return notes
